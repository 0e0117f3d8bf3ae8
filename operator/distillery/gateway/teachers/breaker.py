"""The circuit breakers of one teacher: one that fails is left alone, so that its failures do not eat a budget at worst case.

What fails for one tenant may be that tenant's fault (a request that brings the server down, one that takes too long). So each namespace has
a breaker of its own, which its own requests open and close. All are kept from the teacher only by what no single tenant can bring about: a
probe of the gateway itself that fails, or, where the API has nothing that can be asked for nothing, failures of two namespaces at once.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Final

from distillery.gateway.errors import TEACHER_UNAVAILABLE, Refused, refusal

from .outcome import BROKEN_SECONDS

#: So many failures in a row, with nothing that went well between them.
_PATIENCE: Final = 5
_LONGEST: Final = 60.0


class Breaker:
    """Closed: all pass. Open: none, until a time. Then one passes, and its outcome decides. `clock` is monotonic."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._failures = 0
        self._open_until: float | None = None
        self._probing = False
        self._why = ""

    @property
    def why(self) -> str | None:
        """What keeps it open; None where requests pass."""
        return self._why if self._open_until is not None else None

    @property
    def failing(self) -> str | None:
        """Why it failed lately; None where that is long enough ago to be asked again."""
        return self._why if self._open_until is not None and self._open_until > self._clock() else None

    def check(self) -> None:
        """Refused while it is open."""
        if self._open_until is None:
            return
        left = self._open_until - self._clock()
        if left > 0 or self._probing:
            raise _left_alone(self._why, left)

    def enter(self) -> None:
        """A request goes: the only one for now, where it was open. Refused while it is open."""
        self.check()
        self._probing = self._open_until is not None

    def went_well(self) -> None:
        """The teacher works."""
        self._failures, self._open_until, self._probing = 0, None, False

    def leave(self) -> None:
        """A request ended that tells nothing about the teacher."""
        self._probing = False

    def failed(self, why: str) -> None:
        """A failure of the teacher; the wait doubles with each after the first few."""
        self._failures += 1
        if self._probing or self._failures >= _PATIENCE:
            self._open(why, min(_LONGEST, 2.0 ** (max(self._failures, _PATIENCE) - _PATIENCE)))

    def broken(self, why: str) -> None:
        """It cannot work until someone mends it."""
        self._failures = max(self._failures, _PATIENCE)
        self._open(why, BROKEN_SECONDS)

    def _open(self, why: str, seconds: float) -> None:
        self._why, self._open_until, self._probing = why, self._clock() + seconds, False


def _left_alone(why: str, seconds: float) -> Refused:
    return refusal(TEACHER_UNAVAILABLE, f"{why}; it is asked again in a while", retry_after=max(1.0, seconds))


@dataclass(frozen=True, slots=True)
class Probed:
    """What the gateway's own question told: it works, or why it does not; `works` is None where the API answers no such question."""

    works: bool | None
    why: str = ""


Probe = Callable[[str | None], Awaitable[Probed]]


class Breakers:
    """One for each namespace that has met a failure, and what keeps all of them away. `probe` asks for nothing, with the key given."""

    def __init__(self, clock: Callable[[], float], probe: Probe) -> None:
        self._clock, self._probe = clock, probe
        self._own: dict[str, Breaker] = {}
        self._open_until: float | None = None
        self._openings = 0
        self._why = ""
        self._can_probe = True
        self._probing: asyncio.Task[None] | None = None

    def of(self, namespace: str, key: str | None) -> NamespaceBreaker:
        """As a namespace sees it; `key` is what a probe is sent with."""
        return NamespaceBreaker(self, namespace, key)

    def why(self, namespace: str) -> str | None:
        """What keeps a namespace from the teacher; None where its requests pass."""
        if self._open_until is not None:
            return self._why
        own = self._own.get(namespace)
        return None if own is None else own.why

    async def probed(self) -> None:
        """Wait for the probe that is under way, if there is one."""
        if self._probing is not None:
            await self._probing

    async def close(self) -> None:
        """End a probe that is under way."""
        if self._probing is not None:
            self._probing.cancel()
            await asyncio.gather(self._probing, return_exceptions=True)

    def own(self, namespace: str) -> Breaker:
        """That of a namespace."""
        return self._own.setdefault(namespace, Breaker(self._clock))

    def check(self, key: str | None) -> None:
        """Refused while all are kept away."""
        if self._open_until is None:
            return
        left = self._open_until - self._clock()
        if left <= 0 and not self._can_probe:
            # each namespace tries for itself
            self._open_until = None
            return
        if left <= 0:
            self.ask(key)
        raise _left_alone(self._why, left)

    def went_well(self, namespace: str) -> None:
        """The teacher answered a request of this namespace."""
        self._own.pop(namespace, None)
        self._close()

    def ask(self, key: str | None) -> None:
        """Ask for ourselves, one question at a time."""
        if self._probing is None or self._probing.done():
            self._probing = asyncio.create_task(self._ask(key))

    async def _ask(self, key: str | None) -> None:
        found = await self._probe(key)
        self._can_probe = found.works is not None
        if found.works:
            self._close()
        elif found.works is False:
            self._open(found.why)
        elif len(failing := [why for own in self._own.values() if (why := own.failing) is not None]) > 1:
            self._open(failing[0])
        else:
            self._open_until = None

    def _open(self, why: str) -> None:
        self._why, self._open_until = why, self._clock() + min(_LONGEST, 2.0**self._openings)
        self._openings = min(self._openings + 1, 16)

    def _close(self) -> None:
        self._open_until, self._openings = None, 0


@dataclass(frozen=True, slots=True)
class NamespaceBreaker:
    """What a request of a namespace meets, and what it tells: as of a Breaker."""

    breakers: Breakers
    namespace: str
    key: str | None = field(repr=False)

    def check(self) -> None:
        """Refused while all are kept away, or this namespace."""
        self.breakers.check(self.key)
        self.breakers.own(self.namespace).check()

    def enter(self) -> None:
        """A request goes: the only one of its namespace for now, where it was kept away. Refused as by `check`."""
        self.breakers.check(self.key)
        self.breakers.own(self.namespace).enter()

    def went_well(self) -> None:
        """The teacher works."""
        self.breakers.went_well(self.namespace)

    def leave(self) -> None:
        """A request ended that tells nothing about the teacher."""
        self.breakers.own(self.namespace).leave()

    def failed(self, why: str) -> None:
        """A failure, of the teacher or of the request."""
        own = self.breakers.own(self.namespace)
        own.failed(why)
        if own.why is not None:
            self.breakers.ask(self.key)

    def broken(self, why: str) -> None:
        """It cannot work until someone mends it, by what this namespace was told."""
        self.breakers.own(self.namespace).broken(why)
        self.breakers.ask(self.key)

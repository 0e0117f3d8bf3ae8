"""The circuit breaker of one teacher: one that fails is left alone, so that its failures do not eat a budget at worst case."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from distillery.gateway.errors import TEACHER_UNAVAILABLE, refusal

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

    def check(self) -> None:
        """Refused while it is open."""
        if self._open_until is None:
            return
        left = self._open_until - self._clock()
        if left > 0 or self._probing:
            raise refusal(TEACHER_UNAVAILABLE, f"{self._why}; it is asked again in a while", retry_after=max(1.0, left))

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

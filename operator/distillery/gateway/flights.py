"""Questions that are being answered right now: who asks the same in the meantime waits for the one answer, and pays nothing.

A flight is a task of its own. It ends although whoever began it went away: what is being paid for is always kept.
"""

from __future__ import annotations

import asyncio
import logging
import weakref
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from typing import Literal, Self

from distillery.api import reasons

from .errors import Refused, refusal
from .ledger import JobRef
from .room import Portion

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, weakref_slot=True)
class Served:
    """An answer: the body as the teacher gave it, what it costs whoever asked first, and the terms that it was bought under."""

    body: bytes
    cost: int
    terms: str
    cache: Literal["hit", "miss"]

    def keeping(self, portion: Portion | None) -> Self:
        """This, for as long as which its bytes take room, whoever it is served to."""
        if portion is not None:
            weakref.finalize(self, portion.release)
        return self


class Relay:
    """The events of a stream as they come, for any number of readers, each from the first on."""

    def __init__(self) -> None:
        self._events: list[tuple[bytes, bool]] = []
        self._ended = False
        self._more = asyncio.Event()

    def put(self, event: bytes, usage: bool) -> None:
        """One more event; `usage` marks the one that tells nothing but the usage, for readers that asked for it."""
        self._events.append((event, usage))
        self._wake()

    def end(self) -> None:
        """No more will come."""
        self._ended = True
        self._wake()

    async def follow(self, usage: bool) -> AsyncIterator[bytes]:
        """Every event, until the end."""
        read = 0
        while True:
            while read < len(self._events):
                event, only_usage = self._events[read]
                read += 1
                if usage or not only_usage:
                    yield event
            if self._ended:
                return
            await self._more.wait()

    def _wake(self) -> None:
        self._more.set()
        self._more = asyncio.Event()


class Flight:
    """One question on its way. `relay` is there where whoever began it wanted a stream."""

    def __init__(self, payer: JobRef, relay: Relay | None, task: asyncio.Task[Served]) -> None:
        self.payer, self.relay, self._task = payer, relay, task

    async def served(self) -> Served:
        """The answer, or what the flight raised."""
        return await asyncio.shield(self._task)


class Flights:
    """All of them, by the key of their question."""

    def __init__(self) -> None:
        self._by_key: dict[str, Flight] = {}
        self._tasks: set[asyncio.Task[Served]] = set()
        self._closing = False

    def enter(
        self, key: str, payer: JobRef, relay: Relay | None, begin: Callable[[Relay | None], Awaitable[Served]]
    ) -> tuple[Flight, bool]:
        """Join the flight of this key, or begin one; True where it was begun. There is no pause between looking and beginning.

        Refused where the process ends.
        """
        known = self._by_key.get(key)
        if known is not None:
            return known, False
        if self._closing:
            raise refusal(reasons.GATEWAY_UNAVAILABLE, "the gateway is being restarted; ask again in a moment", retry_after=5.0)
        task = asyncio.create_task(self._fly(key, relay, begin))
        self._tasks.add(task)
        task.add_done_callback(self._landed)
        flight = self._by_key[key] = Flight(payer, relay, task)
        return flight, True

    async def drain(self, seconds: float) -> int:
        """Begin none any more and wait until all have landed; gives how many have not in this time."""
        self._closing = True
        if not self._tasks:
            return 0
        _, late = await asyncio.wait(self._tasks, timeout=seconds)
        return len(late)

    async def _fly(self, key: str, relay: Relay | None, begin: Callable[[Relay | None], Awaitable[Served]]) -> Served:
        try:
            return await begin(relay)
        finally:
            # before anyone hears of the outcome: who asks again now begins a flight of its own
            del self._by_key[key]
            if relay is not None:
                relay.end()

    def _landed(self, task: asyncio.Task[Served]) -> None:
        self._tasks.discard(task)
        error = None if task.cancelled() else task.exception()
        if error is not None and not isinstance(error, Refused):
            # nobody may be left to be told
            log.error("a fault while a question was answered", exc_info=error)

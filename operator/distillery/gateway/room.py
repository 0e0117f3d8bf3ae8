"""Bytes that may be in flight: bodies of requests, answers that are read, streams that are passed on, bodies that are being served.

Half of the room is for questions and half for answers, so that a question, which keeps its part until it is answered, cannot keep its own
answer out. No namespace may have more than three quarters of a half.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import dataclass
from types import TracebackType
from typing import Final, Self

from distillery.api import reasons

from .errors import Refused, refusal

MIB: Final = 1024 * 1024
#: A question waits so long for room, in seconds, before it is sent away. Who has paid waits as long as it takes.
PATIENCE: Final = 10.0


@dataclass(slots=True, eq=False)
class _Waiting:
    portion: Portion
    size: int
    turn: asyncio.Future[None]


class Room:
    """A semaphore of bytes; who waits goes in the order of coming, unless it is its own namespace that has too many."""

    def __init__(self, total: int, patience: float = PATIENCE) -> None:
        self.total, self._most, self._patience = total, total * 3 // 4, patience
        self.used, self.highest = 0, 0
        self._by_owner: Counter[str] = Counter()
        self._waiting: list[_Waiting] = []

    def nothing(self, owner: str) -> Portion:
        """A portion that may grow."""
        return Portion(self, owner)

    async def take(self, owner: str, size: int) -> Portion:
        """So many bytes. Refused where there is no room for them in a while."""
        portion = Portion(self, owner)
        if not self._waiting and self._fits(portion, size):
            self._give(portion, min(size, self._most))
            return portion
        try:
            async with asyncio.timeout(self._patience):
                await portion.grow(size)
        except TimeoutError:
            # its turn may have come at that very moment
            portion.release()
            raise _full() from None
        except BaseException:
            portion.release()
            raise
        return portion

    def grab(self, owner: str, size: int) -> Portion:
        """So many bytes at once. Refused where there is no room: whoever holds them already may not wait with them in its hands."""
        portion, size = Portion(self, owner), min(size, self._most)
        if not self._fits(portion, size):
            raise _full()
        self._give(portion, size)
        return portion

    def _fits(self, portion: Portion, size: int) -> bool:
        more = size - portion.size
        return self.used + more <= self.total and self._by_owner[portion.owner] + more <= self._most

    def _give(self, portion: Portion, size: int) -> None:
        more, portion.size = size - portion.size, size
        self.used += more
        self._by_owner[portion.owner] += more
        self.highest = max(self.highest, self.used)

    async def _grow(self, portion: Portion, size: int) -> None:
        size = min(size, self._most)
        if size <= portion.size:
            return
        if self._fits(portion, size) and not self._waiting:
            self._give(portion, size)
            return
        waiting = _Waiting(portion, size, asyncio.get_running_loop().create_future())
        self._waiting.append(waiting)
        self._pump()
        try:
            await waiting.turn
        except asyncio.CancelledError:
            if waiting in self._waiting:
                self._waiting.remove(waiting)
            raise

    def _back(self, portion: Portion) -> None:
        self.used -= portion.size
        self._by_owner[portion.owner] -= portion.size
        if not self._by_owner[portion.owner]:
            del self._by_owner[portion.owner]
        portion.size = 0
        self._pump()

    def _pump(self) -> None:
        for waiting in list(self._waiting):
            if waiting.turn.done():
                self._waiting.remove(waiting)
            elif self._fits(waiting.portion, waiting.size):
                self._waiting.remove(waiting)
                self._give(waiting.portion, waiting.size)
                waiting.turn.set_result(None)
            elif self._by_owner[waiting.portion.owner] + waiting.size - waiting.portion.size <= self._most:
                # large ones would never go if small ones passed them
                return


class Portion:
    """What one request has of it; given back once."""

    def __init__(self, room: Room, owner: str) -> None:
        self._room, self.owner, self.size = room, owner, 0

    async def grow(self, size: int) -> None:
        """So many bytes in all."""
        await self._room._grow(self, size)

    def release(self) -> None:
        """Give it back."""
        self._room._back(self)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.release()


def _full() -> Refused:
    text = "the gateway has as many bytes in flight as it may (gateway.inFlight of the chart); ask again in a moment"
    return refusal(reasons.GATEWAY_UNAVAILABLE, text, retry_after=2.0)


@dataclass(frozen=True)
class Sizes:
    """Bytes: of one request, of one answer, and of all that are in flight, half of which are for either."""

    request: int = MIB
    answer: int = 8 * MIB
    total: int = 128 * MIB


#: As the chart has them.
DEFAULT_SIZES: Final = Sizes()

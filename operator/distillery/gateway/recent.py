"""What was found out a moment ago and still holds: one look at a time for each key, however many ask."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Hashable
from typing import Generic, TypeVar

from .errors import Refused

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


class Recent(Generic[K, V]):
    """Values, and refusals too, kept for `seconds` of a monotonic clock; any other failure is not kept."""

    def __init__(self, clock: Callable[[], float], seconds: float, capacity: int = 4096) -> None:
        self._clock, self._seconds, self._capacity = clock, seconds, capacity
        self._known: OrderedDict[K, tuple[float, V | Refused]] = OrderedDict()
        self._loading: dict[K, asyncio.Task[V]] = {}

    def peek(self, key: K) -> V | None:
        """The value, if it is known and holds; Refused, if that is what is known."""
        known = self._known.get(key)
        if known is None or known[0] <= self._clock():
            return None
        if isinstance(known[1], Refused):
            raise known[1]
        return known[1]

    def is_loading(self, key: K) -> bool:
        """Whether somebody looks it up right now."""
        return key in self._loading

    async def get(self, key: K, load: Callable[[], Awaitable[V]]) -> V:
        """The value, looked up where it is not known."""
        known = self.peek(key)
        if known is not None:
            return known
        task = self._loading.get(key)
        if task is None:
            # a task of its own: whoever asked first may go away while others wait
            task = self._loading[key] = asyncio.create_task(self._look_up(key, load))
        return await asyncio.shield(task)

    def forget(self, key: K) -> None:
        """Look again next time."""
        self._known.pop(key, None)

    async def _look_up(self, key: K, load: Callable[[], Awaitable[V]]) -> V:
        try:
            found: V | Refused
            try:
                found = await load()
            except Refused as refusal:
                found = refusal
            self._known.pop(key, None)
            self._known[key] = (self._clock() + self._seconds, found)
            while len(self._known) > self._capacity:
                self._known.popitem(last=False)
        finally:
            del self._loading[key]
        if isinstance(found, Refused):
            raise found
        return found

"""The work queue between watch events and reconcile.

A key that is added many times is handled once; a key is never in two hands; a key that failed comes back later and later. Kopf's
handlers only add (they are never retried), so this is where retries, delays and the bound on concurrency live. And the order: what a
running job waits for comes before what may take its time, so that many new jobs at once do not hold up those that are under way.
"""

from __future__ import annotations

import asyncio
import itertools
import random
from collections.abc import Awaitable, Callable, Hashable
from typing import Generic, NamedTuple, TypeVar

from .metrics import Metrics

K = TypeVar("K", bound=Hashable)
Handler = Callable[[K], Awaitable[float | None]]

#: Seconds after the first failure of a key, doubled at each further one.
FIRST_DELAY = 0.2
#: Below a minute, so that after an outage everything is caught up within one.
LONGEST_DELAY = 45.0
#: A key that is not `first` is overtaken by those that come within so many seconds after it; so none waits for ever. As long as a thousand
#: new jobs take: with ten seconds, the stages that ended meanwhile waited for them.
PATIENCE = 60.0


class _Added(NamedTuple):
    """Since when a key waits, and its place in the order."""

    since: float
    place: float


class Queue(Generic[K]):
    """Keys to handle. Delays are seconds on the clock of the running event loop."""

    def __init__(self, metrics: Metrics, jitter: Callable[[], float] = random.random) -> None:
        self._metrics = metrics
        self._jitter = jitter
        self._order: asyncio.PriorityQueue[tuple[float, int, K]] = asyncio.PriorityQueue()
        self._count = itertools.count()
        self._added: dict[K, _Added] = {}
        self._busy: set[K] = set()
        self._later: dict[K, asyncio.TimerHandle] = {}
        self._failures: dict[K, int] = {}

    def add(self, key: K, first: bool = False) -> None:
        """Handle the key as soon as a worker is free; if it is in hand right now, once more after that. `first`: before others."""
        self._forget_later(key)
        now = asyncio.get_running_loop().time()
        place, before = now if first else now + PATIENCE, self._added.get(key)
        if before is not None and before.place <= place:
            return
        self._added[key] = _Added(before.since if before else now, place)
        self._metrics.queue_depth.set(len(self._added))
        if key not in self._busy:
            self._put(key)

    def add_after(self, key: K, seconds: float) -> None:
        """Handle the key after a delay, unless it comes to be handled sooner."""
        loop = asyncio.get_running_loop()
        planned = self._later.get(key)
        if key in self._added or (planned is not None and planned.when() <= loop.time() + seconds):
            return
        self._forget_later(key)
        self._later[key] = loop.call_later(max(0.0, seconds), self.add, key)

    async def run(self, handler: Handler[K], concurrency: int) -> None:
        """Handle keys until cancelled. A number that the handler returns asks for the next pass after so many seconds; an exception
        asks for it after the key's back-off, and is for the handler to log."""
        async with asyncio.TaskGroup() as workers:
            for _ in range(concurrency):
                workers.create_task(self._work(handler))

    async def _work(self, handler: Handler[K]) -> None:
        while True:
            _, _, key = await self._order.get()
            if key in self._busy or key not in self._added:
                continue  # it was moved forward, and has been handled since
            added = self._added.pop(key).since
            self._metrics.queue_depth.set(len(self._added))
            self._busy.add(key)
            try:
                await self._pass(handler, key, added)
            finally:
                self._busy.remove(key)
                if key in self._added:
                    self._put(key)

    def _put(self, key: K) -> None:
        self._order.put_nowait((self._added[key].place, next(self._count), key))

    async def _pass(self, handler: Handler[K], key: K, added: float) -> None:
        clock = asyncio.get_running_loop().time
        started = clock()
        self._metrics.queue_seconds.observe(started - added)
        # What was planned before is planned anew by the pass that begins now.
        self._forget_later(key)
        try:
            again = await handler(key)
        except Exception:  # noqa: BLE001  (whatever it was, the key must come back)
            again = self._back_off(key)
            result = "error"
        else:
            self._failures.pop(key, None)
            result = "requeue" if again is not None else "done"
        if again is not None:
            self.add_after(key, again)
        self._metrics.reconciles.labels(result).inc()
        self._metrics.reconcile_seconds.observe(clock() - started)
        self._metrics.event_to_action.observe(clock() - added)

    def _back_off(self, key: K) -> float:
        """Between half and all of the delay that doubles, so that keys which failed together do not come back together."""
        failures = self._failures[key] = self._failures.get(key, 0) + 1
        self._metrics.queue_retries.inc()
        # 2**20 is far beyond the longest delay; a larger power would not fit a float after a long outage.
        return min(LONGEST_DELAY, FIRST_DELAY * 2.0 ** min(failures - 1, 20)) * (0.5 + 0.5 * self._jitter())

    def _forget_later(self, key: K) -> None:
        if timer := self._later.pop(key, None):
            timer.cancel()

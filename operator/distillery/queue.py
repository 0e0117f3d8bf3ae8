"""The work queue between watch events and reconcile.

A key that is added many times is handled once; a key is never in two hands; a key that failed comes back later and later. Kopf's
handlers only add (they are never retried), so this is where retries, delays and the bound on concurrency live. And the order: what a
running job waits for comes before what may take its time, so that many new jobs at once do not hold up those that are under way.
"""

from __future__ import annotations

import asyncio
import random
from collections import deque
from collections.abc import Awaitable, Callable, Hashable
from typing import Generic, NamedTuple, TypeVar

from .metrics import Metrics

K = TypeVar("K", bound=Hashable)
Handler = Callable[[K], Awaitable[float | None]]

#: Seconds after the first failure of a key, doubled at each further one.
FIRST_DELAY = 0.2
#: Below a minute, so that after an outage everything is caught up within one.
LONGEST_DELAY = 45.0
#: Keys that are not `first` wait while others are. Once they have for so many seconds they get every SHARE-th turn; so none waits for
#: ever, and a thousand new jobs that have all waited for long do not hold up a stage that ends by more than a turn.
PATIENCE, SHARE = 10.0, 4


class _Added(NamedTuple):
    """Since when a key waits, and whether it goes before others."""

    since: float
    first: bool


class Queue(Generic[K]):
    """Keys to handle. Delays are seconds on the clock of the running event loop."""

    def __init__(self, metrics: Metrics, jitter: Callable[[], float] = random.random) -> None:
        self._metrics = metrics
        self._jitter = jitter
        self._first: deque[K] = deque()
        self._others: deque[K] = deque()
        self._turns, self._first_in_a_row = asyncio.Semaphore(0), 0
        self._added: dict[K, _Added] = {}
        self._busy: set[K] = set()
        self._later: dict[K, asyncio.TimerHandle] = {}
        self._failures: dict[K, int] = {}

    def add(self, key: K, first: bool = False) -> None:
        """Handle the key as soon as a worker is free; if it is in hand right now, once more after that. `first`: before others."""
        self._forget_later(key)
        before = self._added.get(key)
        if before is not None and (before.first or not first):
            return
        self._added[key] = _Added(before.since if before else asyncio.get_running_loop().time(), first)
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
            await self._turns.acquire()
            key = self._next()
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
        (self._first if self._added[key].first else self._others).append(key)
        self._turns.release()

    def _next(self) -> K:
        """The key whose turn it is; there is one for each turn."""
        if self._first and not (self._first_in_a_row >= SHARE - 1 and self._is_overdue()):
            self._first_in_a_row += 1
            return self._first.popleft()
        key = self._others.popleft()
        if not self._is_stale(key):
            self._first_in_a_row = 0
        return key

    def _is_overdue(self) -> bool:
        """Whether the oldest of the keys that are not `first` has waited for long, or is none any more."""
        if not self._others:
            return False
        key = self._others[0]
        return self._is_stale(key) or asyncio.get_running_loop().time() - self._added[key].since >= PATIENCE

    def _is_stale(self, key: K) -> bool:
        """Whether a key among the others has been moved forward since."""
        return key not in self._added or self._added[key].first

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

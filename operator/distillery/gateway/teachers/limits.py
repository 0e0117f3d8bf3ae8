"""How fast one teacher is asked: requests and tokens per minute, requests at once, and less of both when it says that it is too much."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

from distillery.api.budget import RateLimits
from distillery.gateway.errors import RATE_LIMIT_EXCEEDED, Refused, refusal

from .flows import LONGEST, Flow, Flows, Waiting

#: A request waits so long for its turn, in seconds, before it is sent away.
PATIENCE: Final = 30.0
#: Complaints within this time, in seconds, are about the same burst.
_BURST: Final = 1.0
_BACK_OFF: Final = 0.7
_MOMENT: Final = 0.2
#: What a budget says counts for so long after its last request, in seconds: it may be deleted.
_FORGOTTEN: Final = 600.0


class _Bucket:
    """So many units per minute, in any minute: a tenth may come at once, the rest flows in."""

    def __init__(self, per_minute: float, now: float) -> None:
        self.per_minute = per_minute
        self._size = max(1.0, per_minute / 10)
        self._rate = (per_minute - self._size if per_minute > self._size else per_minute) / 60
        self._level, self._at = self._size, now

    def wait(self, units: int, now: float) -> float:
        """Seconds until so many may pass. More than the bucket holds pass when it is full, and are paid off afterwards."""
        self._level = min(self._size, self._level + (now - self._at) * self._rate)
        self._at = now
        return max(0.0, (min(units, self._size) - self._level) / self._rate)

    def take(self, units: int) -> None:
        """Let them pass."""
        self._level -= units

    def scaled(self, factor: float, most: float, now: float) -> _Bucket:
        """One of another size that holds no more than this one did: to divide the limits anew gives nobody a second burst."""
        self.wait(0, now)
        found = _Bucket(self.per_minute * factor, now)
        found._level = min(found._size, self._level, most)
        return found


class Limits:
    """Turns for the requests to one teacher: fair among budgets, within one in the order in which they came.

    The bound on requests at once follows the teacher's answers: 7/10 after a complaint, one more after each full round without one. That of
    each budget is 1 until its first answer was within the worst case that was held for it, and doubles with each. `clock` is that of the
    running loop.
    """

    def __init__(self, clock: Callable[[], float], patience: float = PATIENCE) -> None:
        self._clock, self._patience = clock, patience
        self._declared: dict[str, tuple[RateLimits, float]] = {}
        self._share = 1.0
        self._most, self._allowed = 1, 1.0
        self._buckets: list[tuple[_Bucket, bool]] = []
        self._in_flight = 0
        self._silent_until = self._complained_at = float("-inf")
        self._flows = Flows()
        self._timer: asyncio.TimerHandle | None = None

    def declare(self, budget: str, limits: RateLimits) -> None:
        """What one TeacherBudget says that the provider allows; of several the strictest counts, field by field."""
        now, known = self._clock(), self._declared.get(budget)
        idle = [name for name, (_, seen) in self._declared.items() if now - seen > _FORGOTTEN and name != budget]
        for name in idle:
            del self._declared[name]
            self._flows.forget(name)
        self._declared[budget] = (limits, now)
        if known is not None and known[0] == limits and not idle:
            return
        every = [found for found, _ in self._declared.values()]
        self._most = self._part_of(min(found.max_concurrency for found in every))
        self._allowed = float(self._most)
        requests = [found.requests_per_minute for found in every if found.requests_per_minute]
        tokens = [found.tokens_per_minute for found in every if found.tokens_per_minute]
        counts = ((requests, False), (tokens, True))
        self._buckets = [(_Bucket(min(bounds) * (self._share or 1.0), now), counted) for bounds, counted in counts if bounds]
        self._pump()

    def share(self, part: float) -> None:
        """Of what is declared this process uses so much: gateways that live side by side divide a provider's limits. 0: none for now."""
        if part == self._share:
            return
        # who had no share until now begins with nothing: the burst was the others'
        now, factor, most = self._clock(), (part or 1.0) / (self._share or 1.0), float("inf") if self._share else 0.0
        self._share = part
        self._buckets = [(bucket.scaled(factor, most, now), counted) for bucket, counted in self._buckets]
        if self._declared:
            self._most = self._part_of(min(found.max_concurrency for found, _ in self._declared.values()))
            self._allowed = min(float(self._most), max(1.0, self._allowed * factor))
        self._pump()

    def _part_of(self, bound: int) -> int:
        """Of requests at once each process has one at least."""
        return max(1, int(bound * (self._share or 1.0)))

    async def enter(self, budget: str, tokens: int, weight: int) -> None:
        """Wait for a turn. `weight` 2 takes the place of two requests, which halves the pace. Refused after `patience`."""
        flow = self._flows.of(budget)
        if self._flows.empty and flow.has_room(weight) and self._wait(tokens, weight) == 0.0:
            self._take(flow, tokens, weight)
            return
        if len(flow.waiting) >= LONGEST:
            raise self._too_many(tokens, weight)
        turn = asyncio.get_running_loop().create_future()
        self._flows.join(flow, Waiting(turn, tokens, weight))
        self._pump()
        try:
            async with asyncio.timeout(self._patience):
                await turn
        except (TimeoutError, asyncio.CancelledError) as error:
            # whoever left is passed over when its turn comes, unless it came at that very moment
            if not turn.cancelled():
                self.leave(budget, weight)
            if isinstance(error, TimeoutError):
                raise self._too_many(tokens, weight) from None
            raise

    def leave(self, budget: str, weight: int) -> None:
        """The request of a turn is over, and what became of it is booked."""
        self._in_flight -= weight
        self._flows.of(budget).in_flight -= weight
        self._pump()

    @property
    def waiting(self) -> int:
        """How many wait for a turn."""
        return self._flows.waiting

    def within_bounds(self, budget: str) -> None:
        """An answer cost no more than was held for it: twice as many may go at once."""
        flow = self._flows.of(budget)
        flow.proved = min(self._most, 2 * flow.proved)

    def beyond_bounds(self, budget: str) -> None:
        """An answer cost more than was held for it: a bound is wrong, and all is to be proved again."""
        self._flows.of(budget).proved = 1

    def went_well(self) -> None:
        """The teacher answered."""
        self._allowed = min(self._most, self._allowed + 1 / self._allowed)

    def too_fast(self, wait: float | None) -> None:
        """The teacher complained; nothing is sent for `wait` seconds, or for a moment where it does not say how long."""
        now = self._clock()
        self._silent_until = max(self._silent_until, now + (_MOMENT if wait is None else wait))
        if now - self._complained_at > _BURST:
            self._complained_at = now
            self._allowed = max(1.0, self._allowed * _BACK_OFF)

    def _wait(self, tokens: int, weight: int) -> float:
        """Seconds until this request may go; infinite where only another's end can tell."""
        now = self._clock()
        if not self._share:
            return float("inf")
        wait = max(0.0, self._silent_until - now)
        for bucket, counts_tokens in self._buckets:
            wait = max(wait, bucket.wait((tokens if counts_tokens else 1) * weight, now))
        if self._in_flight and self._in_flight + weight > self._allowed:
            return float("inf")
        return wait

    def _take(self, flow: Flow, tokens: int, weight: int) -> None:
        self._flows.take(flow, tokens, weight)
        self._in_flight += weight
        for bucket, counts_tokens in self._buckets:
            bucket.take((tokens if counts_tokens else 1) * weight)

    def _pump(self) -> None:
        """Let go whoever may go, and come back when the next one may."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        while (flow := self._flows.next()) is not None:
            first = flow.waiting[0]
            wait = self._wait(first.tokens, first.weight)
            if wait == 0.0:
                flow.waiting.popleft()
                self._take(flow, first.tokens, first.weight)
                first.turn.set_result(None)
                continue
            if wait != float("inf"):
                # a clock may be a hair behind its own timer
                self._timer = asyncio.get_running_loop().call_later(wait + 0.001, self._pump)
            return

    def _too_many(self, tokens: int, weight: int) -> Refused:
        wait = self._wait(tokens, weight)
        text = "too many requests wait for this teacher's rate limits (rateLimits of the TeacherBudget, or the provider's own)"
        return refusal(RATE_LIMIT_EXCEEDED, text, retry_after=min(wait, self._patience))

"""How fast to ask: additive increase, multiplicative decrease (Chiu and Jain, 1989), and back-off with full jitter while nothing goes.

A pure object: time is an argument, chance is given. One per pod; the gateway keeps the rate limits of all pods together.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field

START, FACTOR, MOST = 4.0, 0.7, 256
_FIRST_DELAY, _LONGEST_DELAY = 0.5, 60.0


@dataclass
class Pace:
    """`width` requests may be in flight. Times are seconds on one monotonic clock."""

    most: int = MOST
    limit: float = START
    chance: Callable[[], float] = random.random
    #: Longest back-off between two attempts that nobody gave a time for.
    longest: float = _LONGEST_DELAY
    not_before: float = 0.0
    failing_since: float | None = None
    _clean: int = 0
    _failures: int = 0
    _decreased: float = field(default=float("-inf"))

    @property
    def width(self) -> int:
        """Requests that may be in flight: one alone tries while nothing goes."""
        return 1 if self.failing_since is not None and self._failures > 1 else max(1, int(self.limit))

    def answered(self, sent: float) -> None:
        """A request sent at `sent` was answered; one more may be in flight after each window without a refusal."""
        self._failures, self.failing_since = 0, None
        if sent <= self._decreased:
            return
        self._clean += 1
        if self._clean >= self.limit:
            self.limit, self._clean = min(float(self.most), self.limit + 1.0), 0

    def refused(self, sent: float, now: float, seconds: float | None) -> None:
        """A request sent at `sent` was told to come later, after `seconds` if that was said.

        The limit falls once per round: what was sent before the last fall says nothing of the new limit.
        """
        self._clean = 0
        if self.failing_since is None:
            self.failing_since = now
        if sent > self._decreased:
            self.limit, self._decreased = max(1.0, self.limit * FACTOR), now
            self._failures += 1
        backoff = min(self.longest, _FIRST_DELAY * 2.0 ** min(self._failures - 1, 16)) * self.chance()
        # with Retry-After the jitter comes on top: nobody is to come earlier
        wait = backoff if seconds is None else seconds + min(backoff, 0.1 * seconds)
        self.not_before = max(self.not_before, now + wait)

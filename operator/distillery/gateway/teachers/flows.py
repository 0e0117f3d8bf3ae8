"""Whose turn it is among the budgets that ask one teacher: a queue for each, so that one that floods waits behind itself alone.

Start-time fair queueing (Goyal, Vin, Cheng 1996): the queue that was served least so far, by the tokens of its requests, goes next; one
that was idle begins level with the others, and has saved up nothing.
"""

from __future__ import annotations

import asyncio
from collections import deque
from dataclasses import dataclass, field
from typing import Final

#: More than this wait in one queue for nothing: they would be sent away anyhow.
LONGEST: Final = 2048


@dataclass(slots=True)
class Waiting:
    """A request that waits; `weight` 2 takes the place of two."""

    turn: asyncio.Future[None]
    tokens: int
    weight: int


@dataclass(slots=True)
class Flow:
    """The requests of one budget. As long as the bounds of its teacher are not proved, few of them go at once."""

    waiting: deque[Waiting] = field(default_factory=deque)
    in_flight: int = 0
    proved: int = 1
    """So many at once, for all that is known: doubled by each answer within its bound."""
    served: float = 0.0
    """In the common measure of all flows, up to where the one that waits first begins."""

    def has_room(self, weight: int) -> bool:
        """Whether another of its requests may go, as far as its bounds are proved."""
        return not self.in_flight or self.in_flight + weight <= self.proved


class Flows:
    """All that ask one teacher, by name."""

    def __init__(self) -> None:
        self._known: dict[str, Flow] = {}
        self._served = 0.0

    def of(self, name: str) -> Flow:
        """The flow of a budget."""
        return self._known.setdefault(name, Flow())

    def forget(self, name: str) -> None:
        """It asks no more; what it has proved has to be proved again."""
        flow = self._known.get(name)
        if flow is not None and not flow.waiting and not flow.in_flight:
            del self._known[name]

    @property
    def empty(self) -> bool:
        """Whether nobody waits."""
        return not any(flow.waiting for flow in self._known.values())

    @property
    def waiting(self) -> int:
        """How many wait, those included that were sent away and not yet passed over."""
        return sum(len(flow.waiting) for flow in self._known.values())

    def join(self, flow: Flow, waiting: Waiting) -> None:
        """One more waits."""
        if not flow.waiting:
            flow.served = max(flow.served, self._served)
        flow.waiting.append(waiting)

    def next(self) -> Flow | None:
        """The flow whose first request goes next; None where none waits that its own bounds let go."""
        ready = []
        for flow in self._known.values():
            # whoever was sent away or left is passed over
            while flow.waiting and flow.waiting[0].turn.done():
                flow.waiting.popleft()
            if flow.waiting and flow.has_room(flow.waiting[0].weight):
                ready.append(flow)
        return min(ready, key=lambda flow: flow.served, default=None)

    def take(self, flow: Flow, tokens: int, weight: int) -> None:
        """A request of this flow goes."""
        flow.in_flight += weight
        self._served = max(self._served, flow.served)
        flow.served = max(flow.served, self._served) + tokens * weight

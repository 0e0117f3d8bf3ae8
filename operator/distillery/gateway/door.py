"""How often one address may ask to be proved, or be turned away: a token costs a request to the API server, and anybody can invent one."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from typing import Final, NamedTuple

from .errors import RATE_LIMIT_EXCEEDED, Refused, refusal

#: At once, and per second afterwards: a node's worth of pods behind one address, each of which is proved once a minute.
_BURST: Final = 50.0
_PER_SECOND: Final = 10.0
#: Addresses that are remembered; the one that was longest silent is forgotten first.
_MOST: Final = 4096


class Bearer(NamedTuple):
    """A token, and the address that it came from."""

    token: str
    address: str


class Door:
    """A bucket for each address. `clock` is monotonic."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._left: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def spend(self, address: str) -> None:
        """Once more. Refused where that is too often."""
        now = self._clock()
        left, at = self._left.pop(address, (_BURST, now))
        left = min(_BURST, left + (now - at) * _PER_SECOND)
        self._left[address] = (max(0.0, left - 1), now)
        while len(self._left) > _MOST:
            self._left.popitem(last=False)
        if left < 1:
            raise too_often()


def too_often() -> Refused:
    """What an address is told."""
    text = "too many unproved requests from this address; ask again in a moment"
    return refusal(RATE_LIMIT_EXCEEDED, text, retry_after=1.0)

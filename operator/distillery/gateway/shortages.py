"""Windows that turned a request away lately: a budget with a cent left is as exhausted as one with none, where an answer costs two."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from typing import Final

from .ledger import Refusal, WindowUse
from .money import shortage

#: A refusal speaks for so long, in seconds; whoever still needs the window asks more often, at least with each resync of the operator.
SECONDS: Final = 900.0
_MOST: Final = 1000
_Key = tuple[str, str, str, str]


class Shortages:
    """What was refused, by account. `clock` is monotonic."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._noted: OrderedDict[_Key, tuple[float, int]] = OrderedDict()

    def note(self, refusal: Refusal) -> None:
        """A window had too little."""
        account = refusal.account
        key = (account.budget, account.window, account.id, account.unit)
        self._noted.pop(key, None)
        self._noted[key] = (self._clock() + SECONDS, refusal.needed)
        while len(self._noted) > _MOST:
            self._noted.popitem(last=False)

    def sentence(self, use: WindowUse) -> str | None:
        """Why a window refuses, as far as is known; None where it does not."""
        account, free = use.account, use.free
        if free is None:
            return None
        until, needed = self._noted.get((account.budget, account.window, account.id, account.unit), (0.0, 0))
        if until > self._clock() and needed > free:
            return shortage(Refusal(account, needed, free))
        return shortage(Refusal(account, 1, 0)) if free == 0 else None

"""Several gateways on one ledger: a question that another one asks is not asked again, and limits are divided by those that live."""

from __future__ import annotations

import asyncio

from .errors import IN_DOUBT, refusal
from .ledger import Ledger

#: Seconds between two looks at another gateway's hold: the first, and the longest.
_FIRST, _LONGEST = 0.05, 1.0
#: Seconds between two signs of life: of a gateway alone, of one of several, of one that the others do not know yet.
_ALONE, _SHARED, _NEW = 15.0, 2.0, 0.5


async def ended(ledger: Ledger, hold: str | None) -> None:
    """Wait for the outcome of another gateway's request. One that is dead has one too, a minute later: in doubt. Refused for a doubt."""
    pause = _FIRST
    while hold is not None:
        state = await ledger.state(hold)
        if state == "inDoubt":
            text = "another gateway asked the same, and nobody knows what became of it; it stays booked at its worst case"
            raise refusal(IN_DOUBT, text)
        if state != "dispatched":
            return
        await asyncio.sleep(pause)
        pause = min(_LONGEST, pause * 1.5)


def until_next(ledger: Ledger, share: float) -> float:
    """Seconds until this gateway's next sign of life."""
    if not ledger.shared:
        return _ALONE
    return _SHARED if share else _NEW

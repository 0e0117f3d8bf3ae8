"""What a ledger has to do, as simply as it can be said: holds in a dictionary, balances summed anew each time."""

from __future__ import annotations

from dataclasses import dataclass, field

from distillery.gateway.ledger import Account, Hold
from distillery.gateway.ledger.windows import day_of, not_before


@dataclass
class Held:
    """A hold as its caller knows it."""

    hold: Hold
    accounts: tuple[Account, ...]
    state: str = "dispatched"
    billed: int = 0
    tokens: int = 0


@dataclass
class Model:
    """Holds by id, and the latest day that was booked in."""

    holds: dict[str, Held] = field(default_factory=dict)
    day: str = ""

    def placed(self, hold: Hold) -> None:
        """The ledger granted it, or may have."""
        self.seen(hold)
        self.holds[hold.id] = Held(hold, tuple(not_before(account, self.day) for account in hold.accounts))

    def seen(self, hold: Hold) -> None:
        """Its time was booked in, granted or not."""
        self.day = max(self.day, day_of(hold.at))

    def restarted(self) -> None:
        """What has no outcome is in doubt."""
        for held in self.holds.values():
            if held.state == "dispatched":
                held.state = "inDoubt"

    def open(self) -> list[str]:
        """Holds without an outcome."""
        return [number for number, held in self.holds.items() if held.state in ("dispatched", "inDoubt")]

    def expected(self, account: Account) -> dict[str, int]:
        """Its balances, but for what is set aside."""
        sums = {"settled": 0, "held": 0, "in_doubt": 0, "overrun": 0}
        for held in self.holds.values():
            if not any(_same(account, other) for other in held.accounts):
                continue
            usd = account.unit == "USD"
            worst, actual = (held.hold.amount, held.billed) if usd else (held.hold.tokens, held.tokens)
            if held.state == "settled":
                sums["settled"] += min(worst, actual)
                sums["overrun"] += max(0, actual - worst)
            elif held.state != "released":
                sums["held" if held.state == "dispatched" else "in_doubt"] += worst
        return sums


def _same(one: Account, other: Account) -> bool:
    return (one.budget, one.window, one.id, one.unit) == (other.budget, other.window, other.id, other.unit)

"""A budget with a job, for tests of the ledger: short ways to make accounts, holds and answers."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field
from datetime import UTC, datetime

from distillery.gateway.ledger import Account, Answer, Hold, JobRef, accounts_of
from distillery.gateway.ledger.contract import WindowName

NOON = datetime(2026, 11, 24, 12, tzinfo=UTC)
_numbers = itertools.count(1)


@dataclass
class Wallet:
    """`usd` and `tokens` are the limits now; change them as a person would edit the budget."""

    usd: dict[WindowName, int] = field(default_factory=dict)
    tokens: dict[WindowName, int] = field(default_factory=dict)
    budget: str = "team-a/main"

    def job(self, uid: str = "job-1") -> JobRef:
        """A job of this budget."""
        return JobRef(self.budget, uid)

    def accounts(self, at: datetime = NOON, uid: str = "job-1") -> tuple[Account, ...]:
        """All its accounts."""
        return accounts_of(self.budget, uid, self.usd, self.tokens, at)

    def account(self, window: WindowName, at: datetime = NOON, unit: str = "USD", uid: str = "job-1") -> Account:
        """One of them."""
        return next(a for a in self.accounts(at, uid) if a.window == window and a.unit == unit)

    def hold(self, amount: int, tokens: int = 0, at: datetime = NOON, uid: str = "job-1", number: str | None = None) -> Hold:
        """A request."""
        name = number or f"{next(_numbers):032x}"
        return Hold(name, self.budget, uid, "gpt", amount, tokens, self.accounts(at, uid), f"key-{name}", at, "openai", "prices")


def answer(key: str, body: bytes = b'{"choices": []}', finish: str = "stop") -> Answer:
    """What the teacher said."""
    return Answer(key, body, finish)

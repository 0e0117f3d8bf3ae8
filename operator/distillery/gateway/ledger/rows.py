"""The rows of the ledger in memory: what a transaction loads, changes and writes back."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal

from .contract import Account, HoldState, Need, Unit, WindowName

Bucket = Literal["free", "reserved", "held", "in_doubt", "settled", "overrun"]
#: From, to, nano-dollars, tokens.
Move = tuple[Bucket, Bucket, int, int]


def stamp(at: datetime) -> str:
    """A time as the ledger writes it: UTC, sortable as text."""
    return at.astimezone(UTC).isoformat(timespec="microseconds")


@dataclass(slots=True)
class HeadRow:
    """The one row that every writer locks first."""

    id: int
    sequence: int
    digest: str
    epoch: int
    """Number of the gateway that opened the ledger last."""
    clock: str
    """Latest day that was booked in; windows before it are closed."""
    read_only: str | None
    next_account: int
    next_reservation: int
    format: int
    """Of the entries that are written."""


@dataclass(slots=True)
class AccountRow:
    """Balances of one account; what is in none of the buckets is free."""

    id: int
    budget: str
    span: WindowName
    period: str
    unit: Unit
    bound: int | None
    settled: int = 0
    held: int = 0
    reserved: int = 0
    in_doubt: int = 0
    overrun: int = 0
    parent: int | None = None

    @property
    def room(self) -> int | None:
        """What may still be granted; negative if the limit was lowered below what is used."""
        if self.bound is None:
            return None
        return self.bound - self.settled - self.held - self.reserved - self.in_doubt - self.overrun

    def shift(self, source: Bucket, target: Bucket, amount: int) -> None:
        """Move an amount between buckets."""
        if source != "free":
            setattr(self, source, getattr(self, source) - amount)
        if target != "free":
            setattr(self, target, getattr(self, target) + amount)

    def account(self) -> Account:
        """As callers know it."""
        return Account(self.budget, self.span, self.period, self.unit, self.bound)


@dataclass(slots=True)
class JobRow:
    """What a job did so far."""

    budget: str
    uid: str
    reservation: int | None = None
    requests: int = 0
    hits: int = 0
    tokens_in: int = 0
    tokens_out: int = 0
    settled: int = 0
    held: int = 0
    in_doubt: int = 0
    overrun: int = 0
    saved: int = 0
    answers: int = 0
    total: int = 0
    squares: float = 0.0


@dataclass(slots=True)
class ReservationRow:
    """Money set aside for a job in one set of accounts; `amount` and `tokens` are what no request holds."""

    id: int
    budget: str
    uid: str
    accounts: tuple[int, ...]
    opened_at: str
    seen_at: str
    closed_at: str | None = None
    amount: int = 0
    tokens: int = 0
    smallest: int = 0
    smallest_tokens: int = 0
    remaining: int = 0
    estimate: int = 0
    remaining_tokens: int = 0
    estimate_tokens: int = 0

    @property
    def listed(self) -> str:
        """The accounts as the database holds them."""
        return ",".join(map(str, self.accounts))

    def learn(self, need: Need) -> None:
        """Take over what the job is known to need."""
        self.smallest, self.smallest_tokens = need.smallest, need.smallest_tokens
        self.remaining, self.remaining_tokens = need.remaining, need.remaining_tokens
        self.estimate, self.estimate_tokens = need.estimate, need.estimate_tokens


@dataclass(slots=True)
class HoldRow:
    """One request. Its reservation names the accounts, so a late outcome stays in the windows of its dispatch."""

    id: str
    reservation: int
    state: HoldState
    amount: int
    tokens: int
    teacher: str
    request_key: str
    terms: str
    prices: str
    writer: int
    at: str
    billed: int = 0
    tokens_in: int = 0
    tokens_out: int = 0
    resolved_at: str | None = None
    why: str = ""
    status: int | None = None
    request_id: str | None = None


@dataclass(slots=True)
class AnswerRow:
    """A new answer, its body compressed."""

    key: str
    hold: str
    digest: str
    finish: str
    body: bytes | None
    at: str
    location: str | None = None

"""What callers and the ledger say to each other. Amounts are integer nano-dollars or tokens; times are arguments and in UTC."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Literal

WindowName = Literal["perJob", "daily", "monthly", "total"]
Unit = Literal["USD", "tokens"]
#: dispatched: sent or about to be. inDoubt: the outcome is unknown, counted at its worst case until someone knows it.
HoldState = Literal["dispatched", "settled", "released", "inDoubt"]

#: Largest amount of one request: 4.5 million dollars in nano-dollars.
LARGEST = 2**52


class LedgerError(Exception):
    """The ledger did not do what was asked; nothing was booked."""


class Refusal(LedgerError):
    """An account has too little left. Nothing is held."""

    def __init__(self, account: Account, needed: int, free: int) -> None:
        super().__init__(
            f"budget {account.budget}: window {account.window} {account.id} has {free} {account.grain} left of {account.limit},"
            f" {needed} were needed"
        )
        self.account, self.needed, self.free = account, needed, free


class ReadOnly(LedgerError):
    """The ledger was restored from a backup and not accepted yet: it may know of less than was spent."""


class Fenced(LedgerError):
    """Another gateway has opened this ledger; this one must not write any more and has to end."""


class Unavailable(LedgerError):
    """The database did not answer. A hold asked for was not granted."""


class AskedElsewhere(LedgerError):
    """Another gateway asks this very question under the hold of this id, or has its answer by now. Nothing is held."""

    def __init__(self, hold: str | None) -> None:
        super().__init__("another gateway asks the same question" if hold else "another gateway has bought the answer")
        self.hold = hold


class HoldResolved(LedgerError):
    """The hold has its outcome already, or was never made."""


def countable(name: str, **amounts: int) -> None:
    """Raise ValueError unless all are amounts that sums of cannot overflow: of a teacher's answer they may be anything."""
    for field, amount in amounts.items():
        if not isinstance(amount, int) or not 0 <= amount <= LARGEST:
            raise ValueError(f"{name}: {field} {amount!r} is no amount: give a whole number from 0 to {LARGEST}")


@dataclass(frozen=True, slots=True)
class Account:
    """One bound: a budget in a window, in money or tokens. `id` is the job's uid, 2026-11-24, 2026-11 or total."""

    budget: str
    window: WindowName
    id: str
    unit: Unit
    limit: int | None = None

    @property
    def grain(self) -> str:
        """What amounts of this account count."""
        return "nano-USD" if self.unit == "USD" else "tokens"


@dataclass(frozen=True, slots=True)
class JobRef:
    """A DistillationJob on the account of a budget ("namespace/name")."""

    budget: str
    uid: str


@dataclass(frozen=True, slots=True)
class Need:
    """What a job will still cost, so that its reservation has a sensible size; zeros if nothing is known yet (a pilot)."""

    smallest: int
    """Nano-dollars of one request at worst case: with less in the reservation the job cannot go on."""
    smallest_tokens: int
    remaining: int = 0
    estimate: int = 0
    """Of the whole job; a tranche is at most a quarter of it."""
    remaining_tokens: int = 0
    estimate_tokens: int = 0


@dataclass(frozen=True, slots=True)
class Granted:
    """What is set aside for the job and not held by a request."""

    amount: int
    tokens: int


@dataclass(frozen=True, slots=True)
class Hold:
    """One request at its worst case, committed before it is sent. `id` is from `hold_id`; `request_key` is the answer's cache key."""

    id: str
    budget: str
    job_uid: str
    teacher: str
    amount: int
    tokens: int
    accounts: tuple[Account, ...]
    request_key: str
    at: datetime
    terms: str
    prices: str

    def __post_init__(self) -> None:
        """Refuse what is no amount."""
        countable(f"hold {self.id}", amount=self.amount, tokens=self.tokens)

    @property
    def job(self) -> JobRef:
        """On whose account."""
        return JobRef(self.budget, self.job_uid)


@dataclass(frozen=True, slots=True)
class Answer:
    """What a teacher said, stored in the transaction that pays for it. `finish`: stop, truncated, refused …"""

    key: str
    body: bytes
    finish: str = "stop"


@dataclass(frozen=True, slots=True)
class StoredAnswer:
    """An answer in the index. `body` is None when it was moved to the object store, where `location` names it, or where it is damaged."""

    key: str
    body: bytes | None
    location: str | None
    digest: str
    """sha256 of the body."""
    finish: str
    hold: str
    """Which hold bought it."""
    budget: str
    teacher: str
    terms: str
    cost: int
    tokens_in: int
    tokens_out: int
    at: datetime

    @property
    def damaged(self) -> bool:
        """Whether it is neither here as it was bought nor elsewhere."""
        return self.body is None and self.location is None


@dataclass(frozen=True, slots=True)
class Settled:
    """How a hold ended. `overrun` is what was billed beyond the hold: a price or a bound was wrong, pause the budget."""

    paid: int
    overrun: int
    overrun_tokens: int


@dataclass(frozen=True, slots=True)
class JobUsage:
    """What a job has asked and paid. `reserved` is set aside and not held by a request."""

    requests: int = 0
    hits: int = 0
    tokens_in: int = 0
    tokens_out: int = 0
    settled: int = 0
    held: int = 0
    in_doubt: int = 0
    reserved: int = 0
    overrun: int = 0
    saved: int = 0
    answers: int = 0
    """Settled answers; with `total` and `squares` mean and variance of a request's cost."""
    total: int = 0
    squares: float = 0.0


@dataclass(frozen=True, slots=True)
class WindowUse:
    """One account's balances; `account.limit` is the limit that was asked about."""

    account: Account
    settled: int
    held: int
    """By requests under way."""
    reserved: int
    """Set aside for jobs."""
    in_doubt: int
    overrun: int

    @property
    def free(self) -> int | None:
        """What may still be granted: None without a limit, 0 where the limit was lowered below what is used."""
        if self.account.limit is None:
            return None
        return max(0, self.account.limit - self.settled - self.held - self.reserved - self.in_doubt - self.overrun)


@dataclass(frozen=True, slots=True)
class Head:
    """The end of the chain of entries."""

    sequence: int
    digest: str


@dataclass(frozen=True, slots=True)
class Swept:
    """What `sweep` did."""

    lapsed: int
    """Reservations without a sign of life, given back."""
    doubted: int
    """Holds of gateways that are gone, now in doubt."""
    share: float = 1.0
    """What this gateway may use of the limits of teachers: all gateways that live have the same. 0 while another does not know of it."""

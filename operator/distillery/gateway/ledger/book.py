"""What one transaction works on: rows by key, which of them to write, and the one way in which money moves."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

from .chain import FORMAT, Entry, link
from .contract import Account, HoldResolved, JobRef, LedgerError
from .rows import AccountRow, AnswerRow, HeadRow, HoldRow, JobRow, Move, ReservationRow, stamp
from .windows import day_of, not_before

Key = tuple[str, str, str, str]


#: What a gateway that ends knows of others.
ENDED = -1


@dataclass(frozen=True, slots=True)
class Seen:
    """A gateway's sign of life, and the newest gateway that it knows of."""

    writer: int
    at: str
    known: int


@dataclass(slots=True)
class Hits:
    """Answers of one transaction that a job had for nothing: one entry for all."""

    at: datetime
    count: int = 0
    saved: int = 0


@dataclass(slots=True)
class Book:
    """Rows that were loaded and rows that are new. Operations read and change it; the store writes what `changed` names."""

    head: HeadRow
    writer: int
    accounts: dict[int, AccountRow] = field(default_factory=dict)
    keys: dict[Key, int] = field(default_factory=dict)
    jobs: dict[JobRef, JobRow] = field(default_factory=dict)
    reservations: dict[int, ReservationRow] = field(default_factory=dict)
    holds: dict[str, HoldRow] = field(default_factory=dict)
    answered: dict[str, str] = field(default_factory=dict)
    """Answers that are there: by key the hold that bought each."""
    elsewhere: dict[str, str | None] = field(default_factory=dict)
    """Questions of other gateways: by key the hold that they are asked under, or None where they are answered."""
    strays: list[str] = field(default_factory=list)
    """Holds that gateways which are gone left dispatched."""
    idle: list[int] = field(default_factory=list)
    """Open reservations without a sign of life for long."""
    new_accounts: set[int] = field(default_factory=set)
    new_jobs: set[JobRef] = field(default_factory=set)
    new_reservations: set[int] = field(default_factory=set)
    new_holds: set[str] = field(default_factory=set)
    touched_accounts: set[int] = field(default_factory=set)
    touched_jobs: set[JobRef] = field(default_factory=set)
    touched_reservations: set[int] = field(default_factory=set)
    touched_holds: set[str] = field(default_factory=set)
    answers: list[AnswerRow] = field(default_factory=list)
    moved: list[tuple[str, str, str]] = field(default_factory=list)
    """Key, hold that bought it, new location."""
    forgotten: list[str] = field(default_factory=list)
    hits: dict[JobRef, Hits] = field(default_factory=dict)
    entries: list[Entry] = field(default_factory=list)
    gateways: list[tuple[int, int, str]] = field(default_factory=list)
    """Gateways that live, this one too: number, the newest gateway that it knew of at its last sign of life, and when that was."""
    seen: Seen | None = None
    """Sign of life of this gateway to write."""
    leaves: bool = False
    """Whether it is the last."""

    def post(self, kind: str, at: datetime, accounts: tuple[int, ...], moves: list[Move], **facts: object) -> None:
        """Move money in every account and chain the entry that says so: neither happens without the other."""
        moves = [move for move in moves if move[2] or move[3]]
        for number in accounts:
            account = self.accounts[number]
            for source, target, usd, tokens in moves:
                if amount := usd if account.unit == "USD" else tokens:
                    account.shift(source, target, amount)
        self.touched_accounts.update(accounts)
        self.enter(kind, at, accounts=accounts, moves=moves, **facts)

    def enter(self, kind: str, at: datetime, **facts: object) -> None:
        """Chain an entry. The first of all says how to read them."""
        if not self.head.sequence:
            self.upgrade(at)
        self._link(kind, at, facts)

    def upgrade(self, at: datetime) -> None:
        """Entries tell more from here on."""
        self.head.format = FORMAT
        self._link("format", at, {"format": FORMAT, "clock": self.head.clock})

    def _link(self, kind: str, at: datetime, facts: Mapping[str, object]) -> None:
        entry = link(self.head.sequence + 1, self.head.digest, {"kind": kind, "at": stamp(at), **facts})
        self.head.sequence, self.head.digest = entry.sequence, entry.digest
        self.entries.append(entry)

    def enter_hits(self) -> None:
        """Chain what was counted."""
        for job, hits in self.hits.items():
            self.enter("hits", hits.at, budget=job.budget, job=job.uid, count=hits.count, saved=hits.saved)

    def current(self, accounts: tuple[Account, ...], at: datetime) -> tuple[int, ...]:
        """Ids of the accounts, opened where new and with their limits of now. A clock that was set back opens no closed window."""
        if not accounts:
            raise LedgerError("a request without accounts has no limits: give those of `accounts_of`")
        if (day := day_of(at)) > self.head.clock:
            self.enter("day", at, day=day)
            self.head.clock = day
        return tuple(self._account(not_before(account, self.head.clock), at) for account in accounts)

    def _account(self, wanted: Account, at: datetime) -> int:
        number = self.keys.get((wanted.budget, wanted.window, wanted.id, wanted.unit))
        if number is None:
            number = self.head.next_account
            self.head.next_account += 1
            self.add(AccountRow(number, wanted.budget, wanted.window, wanted.id, wanted.unit, wanted.limit))
            self.new_accounts.add(number)
            name = {"budget": wanted.budget, "window": wanted.window, "period": wanted.id, "unit": wanted.unit}
            self.enter("account", at, account=number, limit=wanted.limit, **name)
        elif self.accounts[number].bound != wanted.limit:
            self.accounts[number].bound = wanted.limit
            self.touched_accounts.add(number)
            self.enter("limit", at, account=number, limit=wanted.limit)
        return number

    def add(self, account: AccountRow) -> None:
        """Take an account in."""
        self.accounts[account.id] = account
        self.keys[account.budget, account.span, account.period, account.unit] = account.id

    def job(self, ref: JobRef) -> JobRow:
        """The job's row, to be changed."""
        row = self.jobs.get(ref)
        if row is None:
            row = self.jobs[ref] = JobRow(ref.budget, ref.uid)
            self.new_jobs.add(ref)
        self.touched_jobs.add(ref)
        return row

    def hold(self, number: str) -> HoldRow:
        """The hold's row, to be changed."""
        row = self.holds.get(number)
        if row is None:
            raise HoldResolved(f"hold {number}: the ledger knows none of this id; hold before you settle")
        self.touched_holds.add(number)
        return row

    def reservation(self, number: int) -> ReservationRow:
        """The reservation's row, to be changed."""
        self.touched_reservations.add(number)
        return self.reservations[number]

    def open_reservation(self, job: JobRow, accounts: tuple[int, ...], at: datetime) -> ReservationRow:
        """A new reservation of nothing, as the job's current one."""
        number = self.head.next_reservation
        self.head.next_reservation += 1
        row = ReservationRow(number, job.budget, job.uid, accounts, stamp(at), stamp(at))
        self.reservations[number] = row
        self.new_reservations.add(number)
        self.touched_reservations.add(number)
        job.reservation = number
        return row

"""What is neither asked nor paid by a job: signs of life, cache hits, moved answers, and the decisions of a person."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from . import reserving
from .book import ENDED, Book, Seen
from .contract import Account, JobRef, Swept
from .operation import Span, Wanted
from .resolving import Doubt
from .rows import stamp
from .why import Why
from .windows import not_before

#: A reservation without heartbeat or request for so long is given back.
IDLE = timedelta(minutes=10)
#: A replica on Postgres that wrote no sign of life for so long is gone.
DEAD = timedelta(seconds=60)
#: The same, for a share of the limits of teachers: longer than a gateway that is told to end lets its requests end.
SILENT = timedelta(seconds=30)
#: A gateway that could write no sign of life for so long has set its share to nothing.
MUTE = timedelta(seconds=5)


@dataclass(frozen=True, slots=True)
class Sweep:
    """This gateway lives; what dead ones left goes in doubt; idle reservations lapse."""

    at: datetime

    def wants(self, wanted: Wanted) -> None:
        """What is idle, and what is held by the dead."""
        wanted.jobs_seen, wanted.writers_seen, wanted.gateways_seen = (self._within(span) for span in (IDLE, DEAD, SILENT))

    def apply(self, book: Book) -> Swept:
        """Look again at each row: an operation of the same batch may have come first."""
        doubted = lapsed = 0
        earliest, latest = self._within(IDLE)
        for number in book.strays:
            if book.holds[number].state == "dispatched":
                Doubt(number, self.at, Why.GATEWAY_ENDED).apply(book)
                doubted += 1
        for reservation in book.idle:
            row = book.reservations[reservation]
            if row.closed_at is None and not earliest <= row.seen_at <= latest:
                reserving.close(book, book.reservation(row.id), book.job(JobRef(row.budget, row.uid)), self.at, "no sign of life")
                lapsed += 1
        book.seen = Seen(book.writer, stamp(self.at), book.head.epoch)
        return Swept(lapsed, doubted, self._share(book))

    def _share(self, book: Book) -> float:
        """Nothing while another may still use what is this one's part; a dead one keeps its part for a while."""
        earliest, _ = self._within(MUTE)
        others = [gateway for gateway in book.gateways if gateway[0] != book.writer and gateway[1] != ENDED]
        if any(known < book.writer and seen >= earliest for _, known, seen in others):
            return 0.0
        return 1 / (len(others) + 1)

    def _within(self, span: timedelta) -> Span:
        """A sign of life from the future is of a clock that was set back since: it would otherwise count until that time comes."""
        return stamp(self.at - span), stamp(self.at + span)

    def afterwards(self) -> None:
        """The next sweep does it."""


@dataclass(frozen=True, slots=True)
class Leave:
    """This gateway ends, and leaves its share of the limits to the others. What it holds is in doubt when its signs of life are old."""

    def wants(self, wanted: Wanted) -> None:
        """Nothing."""

    def apply(self, book: Book) -> None:
        """Say so."""
        book.leaves = True

    def afterwards(self) -> None:
        """The others find out by themselves."""


@dataclass(frozen=True, slots=True)
class MarkHit:
    """An answer was there already."""

    job: JobRef
    saved: int

    def wants(self, wanted: Wanted) -> None:
        """The job."""
        wanted.jobs.add(self.job)

    def apply(self, book: Book) -> None:
        """Count it."""
        job = book.job(self.job)
        job.hits, job.saved = job.hits + 1, job.saved + self.saved

    def afterwards(self) -> None:
        """A statistic: not worth keeping."""


@dataclass(frozen=True, slots=True)
class Moved:
    """An answer's body lies in the object store."""

    key: str
    location: str

    def wants(self, wanted: Wanted) -> None:
        """Nothing: the row is changed in place."""

    def apply(self, book: Book) -> None:
        """Forget the body here."""
        book.moved.append((self.key, self.location))

    def afterwards(self) -> None:
        """It will be moved again, to the same place."""


@dataclass(frozen=True, slots=True)
class Forget:
    """An answer is lost or of no use; the next who asks buys it again."""

    key: str
    at: datetime
    why: Why

    def wants(self, wanted: Wanted) -> None:
        """Whether it is there."""
        wanted.answers.add(self.key)

    def apply(self, book: Book) -> None:
        """Drop it from the index; what was paid for it stays paid."""
        if self.key in book.answered:
            book.answered.remove(self.key)
            book.forgotten.append(self.key)
            book.enter("forget", self.at, request=self.key, why=self.why)

    def afterwards(self) -> None:
        """Who misses it next finds out."""


@dataclass(frozen=True, slots=True)
class Accept:
    """A person has compared a restored ledger with the provider's bill: it may grant again."""

    at: datetime
    why: str

    def wants(self, wanted: Wanted) -> None:
        """Nothing."""

    def apply(self, book: Book) -> None:
        """Chain the decision."""
        if book.head.read_only is not None:
            book.enter("accept", self.at, was=book.head.read_only, why=self.why)
            book.head.read_only = None

    def afterwards(self) -> None:
        """The person sees the error."""


@dataclass(frozen=True, slots=True)
class Adjust:
    """Money that was spent but that the ledger does not know of, for example after a restore. Limits do not matter: it is a fact."""

    accounts: tuple[Account, ...]
    amount: int
    tokens: int
    at: datetime
    why: str

    def wants(self, wanted: Wanted) -> None:
        """The accounts."""
        wanted.accounts.extend(self.accounts)

    def apply(self, book: Book) -> None:
        """Book it as paid, under the limits that the accounts have."""
        limited = tuple(_as_limited(book, not_before(account, book.head.clock)) for account in self.accounts)
        book.post("adjust", self.at, book.current(limited, self.at), [("free", "settled", self.amount, self.tokens)], why=self.why)

    def afterwards(self) -> None:
        """The person sees the error."""


def _as_limited(book: Book, account: Account) -> Account:
    number = book.keys.get((account.budget, account.window, account.id, account.unit))
    return account if number is None else book.accounts[number].account()


@dataclass(frozen=True, slots=True)
class Acknowledge:
    """A person knows of a budget's overruns and has mended the price or the bound: they count as paid."""

    budget: str
    at: datetime
    why: str

    def wants(self, wanted: Wanted) -> None:
        """Accounts with an overrun."""
        wanted.overruns.add(self.budget)

    def apply(self, book: Book) -> int:
        """Move each to settled; how many accounts had one."""
        found = [row for row in book.accounts.values() if row.budget == self.budget and row.overrun]
        for row in found:
            over = row.overrun
            amounts = (over, 0) if row.unit == "USD" else (0, over)
            book.post("acknowledge", self.at, (row.id,), [("overrun", "settled", *amounts)], why=self.why)
        return len(found)

    def afterwards(self) -> None:
        """The person sees the error."""


@dataclass(frozen=True, slots=True)
class SetClock:
    """The clock once ran ahead, and everything since was booked in windows of the future: go back to the real day."""

    at: datetime
    why: str

    def wants(self, wanted: Wanted) -> None:
        """Nothing."""

    def apply(self, book: Book) -> None:
        """Later operations use the windows of `at`."""
        day = stamp(self.at)[:10]
        book.enter("clock", self.at, was=book.head.clock, day=day, why=self.why)
        book.head.clock = day

    def afterwards(self) -> None:
        """The person sees the error."""

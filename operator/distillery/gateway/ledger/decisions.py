"""What a person decides: it is entered in the chain with the person's reason."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from .book import Book
from .contract import Account, HoldResolved, countable
from .operation import Wanted
from .resolving import Bill, owner, returned
from .rows import HoldRow, stamp
from .windows import not_before


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

    def __post_init__(self) -> None:
        """Refuse what is no amount."""
        countable(f"budget {self.accounts[0].budget}", amount=self.amount, tokens=self.tokens)

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


@dataclass(frozen=True, slots=True)
class Resolve:
    """The provider's usage page tells what became of a request in doubt: what it was billed, or that it was not billed at all."""

    hold: str
    amount: int | None
    """None: not billed."""
    tokens: tuple[int, int] | None
    """In and out; None: as many as were held, for whoever does not know may not say less."""
    at: datetime
    why: str

    def __post_init__(self) -> None:
        """Refuse what is no amount."""
        tokens_in, tokens_out = self.tokens or (0, 0)
        countable(f"hold {self.hold}", amount=self.amount or 0, tokens_in=tokens_in, tokens_out=tokens_out)

    def wants(self, wanted: Wanted) -> None:
        """The hold."""
        wanted.holds.add(self.hold)

    def apply(self, book: Book) -> bool:
        """End the doubt; False where it has ended so before. The gateway that is told of the outcome yet finds the hold resolved."""
        hold = book.hold(self.hold)
        bill = self._bill(hold)
        if (hold.state == "released") if bill is None else (hold.state == "settled" and hold.billed == bill.amount):
            return False
        if hold.state != "inDoubt":
            raise HoldResolved(f"hold {hold.id} is {hold.state} since {hold.resolved_at or hold.at}: only what is in doubt can be resolved")
        row, job = owner(book, hold)
        if bill is None:
            moves = returned(row, "in_doubt", hold.amount, hold.tokens)
            job.in_doubt, job.requests = job.in_doubt - hold.amount, job.requests - 1
            hold.state, hold.resolved_at = "released", stamp(self.at)
        else:
            moves, _ = bill.book(hold, row, job, self.at)
        verdict = {"verdict": "not-billed"} if bill is None else {"verdict": "billed", **bill.facts()}
        book.post("resolve", self.at, row.accounts, moves, hold=hold.id, job=row.uid, why=self.why, **verdict)
        return True

    def _bill(self, hold: HoldRow) -> Bill | None:
        if self.amount is None:
            return None
        return Bill(self.amount, *(self.tokens or (hold.tokens, 0)))

    def afterwards(self) -> None:
        """The person sees the error."""

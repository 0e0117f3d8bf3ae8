"""How holds end: paid, released or in doubt, each once."""

from __future__ import annotations

import hashlib
import zlib
from dataclasses import astuple, dataclass
from datetime import datetime
from typing import Literal

from . import reserving
from .book import Book
from .contract import Answer, HoldResolved, JobRef, Settled, countable
from .operation import Wanted
from .rows import AnswerRow, Bucket, HoldRow, JobRow, Move, ReservationRow, stamp
from .why import UNHEARD, Outside, Why


def owner(book: Book, hold: HoldRow) -> tuple[ReservationRow, JobRow]:
    """On whose account a hold is, both to be changed."""
    row = book.reservation(hold.reservation)
    return row, book.job(JobRef(row.budget, row.uid))


def _dispatched(hold: HoldRow) -> None:
    if hold.state != "dispatched":
        raise HoldResolved(f"hold {hold.id} is {hold.state} since {hold.resolved_at or hold.at}: a hold ends once")


def _learn(hold: HoldRow, told: Outside) -> None:
    """What is known of the reply stays known: a late outcome may bring less than the doubt before it."""
    if told.status is not None:
        hold.status = told.status
    if told.request_id is not None:
        hold.request_id = told.request_id


def returned(row: ReservationRow, source: Bucket, amount: int, tokens: int) -> list[Move]:
    """Back to the reservation as far as the job needs it, else to the windows."""
    kept, kept_tokens = reserving.kept(row, amount, tokens)
    row.amount, row.tokens = row.amount + kept, row.tokens + kept_tokens
    return [(source, "reserved", kept, kept_tokens), (source, "free", amount - kept, tokens - kept_tokens)]


@dataclass(frozen=True, slots=True)
class Bill:
    """What the provider asks for a request."""

    amount: int
    tokens_in: int
    tokens_out: int

    def against(self, hold: HoldRow) -> Settled:
        """How much of it the hold covers."""
        tokens = self.tokens_in + self.tokens_out
        paid = min(self.amount, hold.amount)
        return Settled(paid, self.amount - paid, tokens - min(tokens, hold.tokens))

    def book(self, hold: HoldRow, row: ReservationRow, job: JobRow, at: datetime) -> tuple[list[Move], Settled]:
        """End a hold with it, in the rows; gives the moves, for the caller to post: to settled, the excess to overrun, the rest back."""
        source: Literal["in_doubt", "held"] = "in_doubt" if hold.state == "inDoubt" else "held"
        result, paid_tokens = self.against(hold), min(self.tokens_in + self.tokens_out, hold.tokens)
        if source == "held":
            job.held -= hold.amount
        else:
            job.in_doubt -= hold.amount
        job.settled, job.overrun = job.settled + result.paid, job.overrun + result.overrun
        job.tokens_in, job.tokens_out = job.tokens_in + self.tokens_in, job.tokens_out + self.tokens_out
        hold.state, hold.resolved_at = "settled", stamp(at)
        hold.billed, hold.tokens_in, hold.tokens_out = self.amount, self.tokens_in, self.tokens_out
        moves: list[Move] = [
            (source, "settled", result.paid, paid_tokens),
            ("free", "overrun", result.overrun, result.overrun_tokens),
            *returned(row, source, hold.amount - result.paid, hold.tokens - paid_tokens),
        ]
        return moves, result

    def facts(self) -> dict[str, object]:
        """For the entry."""
        return {"billed": self.amount, "input": self.tokens_in, "output": self.tokens_out}


@dataclass(frozen=True, slots=True)
class Settle:
    """Book what was billed and store the answer."""

    hold: str
    amount: int
    tokens_in: int
    tokens_out: int
    at: datetime
    answer: Answer | None
    told: Outside = UNHEARD

    def __post_init__(self) -> None:
        """Refuse what is no amount."""
        countable(f"hold {self.hold}", amount=self.amount, tokens_in=self.tokens_in, tokens_out=self.tokens_out)

    def wants(self, wanted: Wanted) -> None:
        """The hold, and whether its answer was bought before."""
        wanted.holds.add(self.hold)
        if self.answer is not None:
            wanted.answers.add(self.answer.key)

    def apply(self, book: Book) -> Settled:
        """Move the bill to settled, what goes beyond the hold to overrun, the rest back."""
        hold = book.hold(self.hold)
        bill = Bill(self.amount, self.tokens_in, self.tokens_out)
        if hold.state == "settled" and (hold.billed, hold.tokens_in, hold.tokens_out) == astuple(bill):
            return bill.against(hold)
        if hold.state != "inDoubt":
            _dispatched(hold)
        row, job = owner(book, hold)
        moves, result = bill.book(hold, row, job, self.at)
        job.answers, job.total, job.squares = job.answers + 1, job.total + self.amount, job.squares + float(self.amount) ** 2
        _learn(hold, self.told)
        facts = {**bill.facts(), **self.told.facts()}
        if self.answer is not None:
            facts |= {"answer": self._store(book, self.answer), "finish": self.answer.finish}
            if self.answer.key != hold.request_key:
                facts["key"] = self.answer.key
        book.post("settle", self.at, row.accounts, moves, hold=hold.id, job=row.uid, **facts)
        return result

    def _store(self, book: Book, answer: Answer) -> str:
        """The first answer of a key stays: what was handed out once is handed out again."""
        digest = hashlib.sha256(answer.body).hexdigest()
        if answer.key not in book.answered:
            book.answered[answer.key] = self.hold
            book.answers.append(AnswerRow(answer.key, self.hold, digest, answer.finish, zlib.compress(answer.body, 1), stamp(self.at)))
        return digest

    def afterwards(self) -> Settle:
        """It was billed, whatever the caller was told."""
        return self


@dataclass(frozen=True, slots=True)
class Release:
    """The request was provably not billed."""

    hold: str
    at: datetime
    why: Why
    told: Outside = UNHEARD

    def wants(self, wanted: Wanted) -> None:
        """The hold."""
        wanted.holds.add(self.hold)

    def apply(self, book: Book) -> None:
        """All of it is given back. What is in doubt stays: a doubt is not resolved by the one who had it."""
        hold = book.hold(self.hold)
        if hold.state == "released":
            return
        _dispatched(hold)
        row, job = owner(book, hold)
        moves = returned(row, "held", hold.amount, hold.tokens)
        job.held, job.requests = job.held - hold.amount, job.requests - 1
        hold.state, hold.resolved_at, hold.why = "released", stamp(self.at), self.why.value
        _learn(hold, self.told)
        book.post("release", self.at, row.accounts, moves, hold=hold.id, job=row.uid, why=self.why, **self.told.facts())

    def afterwards(self) -> Release:
        """Still true."""
        return self


@dataclass(frozen=True, slots=True)
class Doubt:
    """Nobody knows whether the request was billed."""

    hold: str
    at: datetime
    why: Why
    told: Outside = UNHEARD

    def wants(self, wanted: Wanted) -> None:
        """The hold."""
        wanted.holds.add(self.hold)

    def apply(self, book: Book) -> None:
        """The worst case stays booked."""
        hold = book.hold(self.hold)
        if hold.state == "inDoubt":
            return
        _dispatched(hold)
        row, job = owner(book, hold)
        job.held, job.in_doubt = job.held - hold.amount, job.in_doubt + hold.amount
        hold.state, hold.why = "inDoubt", self.why.value
        _learn(hold, self.told)
        moves: list[Move] = [("held", "in_doubt", hold.amount, hold.tokens)]
        book.post("doubt", self.at, row.accounts, moves, hold=hold.id, job=row.uid, why=self.why, **self.told.facts())

    def afterwards(self) -> Doubt:
        """Still true."""
        return self

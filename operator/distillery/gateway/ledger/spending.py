"""Setting money aside: for a job, and for a request before it is sent."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from . import reserving
from .book import Book
from .contract import Account, AskedElsewhere, Granted, Hold, HoldResolved, JobRef, Need
from .operation import Wanted
from .resolving import Release
from .rows import HoldRow, stamp
from .why import Why


@dataclass(frozen=True, slots=True)
class Reserve:
    """Set a tranche aside and note a sign of life."""

    job: JobRef
    accounts: tuple[Account, ...]
    need: Need
    at: datetime

    def wants(self, wanted: Wanted) -> None:
        """Accounts and job."""
        wanted.accounts.extend(self.accounts)
        wanted.jobs.add(self.job)

    def apply(self, book: Book) -> Granted:
        """Resize the reservation: up to a tranche if a request does not fit, down to it if the work has become less."""
        row = reserving.current(book, book.job(self.job), book.current(self.accounts, self.at), self.at)
        row.learn(self.need)
        moves = reserving.fit(book, row, self.need.smallest, self.need.smallest_tokens, self.at)
        reserving.post(book, row, self.at, moves, "for the next requests")
        reserving.shrink(book, row, self.at, "more than the work needs", *reserving.sizes(row))
        return Granted(row.amount, row.tokens)

    def afterwards(self) -> None:
        """The next sign of life asks again."""


@dataclass(frozen=True, slots=True)
class GiveBack:
    """End a job's reservation."""

    job: JobRef
    at: datetime

    def wants(self, wanted: Wanted) -> None:
        """The job."""
        wanted.jobs.add(self.job)

    def apply(self, book: Book) -> None:
        """Close it, if there is one."""
        job = book.jobs.get(self.job)
        if job is not None and job.reservation is not None:
            reserving.close(book, book.reservation(job.reservation), book.job(self.job), self.at, "the job asks no more")

    def afterwards(self) -> GiveBack:
        """Still to be done."""
        return self


@dataclass(frozen=True, slots=True)
class Place:
    """Hold a request's worst case."""

    hold: Hold

    def wants(self, wanted: Wanted) -> None:
        """Accounts, job, whether the hold is there already, and whether another gateway asks the same."""
        wanted.accounts.extend(self.hold.accounts)
        wanted.jobs.add(self.hold.job)
        wanted.holds.add(self.hold.id)
        wanted.questions.add(self.hold.request_key)

    def apply(self, book: Book) -> None:
        """Draw on the reservation, resized first where it is too small.

        Gateways on Postgres take turns at the head row, so of two that want to ask the same one sees the other's hold.
        """
        hold = self.hold
        if (there := book.holds.get(hold.id)) is not None:
            if there.state != "dispatched" or there.writer != book.writer:
                raise HoldResolved(f"hold {hold.id} is {there.state}: every request needs an id of its own")
            return
        if hold.request_key in book.elsewhere:
            raise AskedElsewhere(book.elsewhere[hold.request_key])
        job = book.job(hold.job)
        row = reserving.current(book, job, book.current(hold.accounts, hold.at), hold.at)
        moves = reserving.fit(book, row, hold.amount, hold.tokens, hold.at)
        book.holds[hold.id] = HoldRow(
            hold.id, row.id, "dispatched", hold.amount, hold.tokens, hold.teacher, hold.request_key, hold.terms, hold.prices,
            book.writer, stamp(hold.at),
        )  # fmt: skip
        book.new_holds.add(hold.id)
        row.amount -= hold.amount
        row.tokens -= hold.tokens
        job.requests += 1
        job.held += hold.amount
        book.post(
            "hold", hold.at, row.accounts, [*moves, ("reserved", "held", hold.amount, hold.tokens)],
            hold=hold.id, job=hold.job_uid, teacher=hold.teacher, request=hold.request_key, terms=hold.terms, prices=hold.prices,
        )  # fmt: skip

    def afterwards(self) -> Release:
        """The caller was told that nothing is held, so nothing was sent."""
        return Release(self.hold.id, self.hold.at, Why.COMMIT_UNKNOWN)

"""What is neither asked nor paid by a job: signs of life, cache hits, answers that are moved or forgotten."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from . import reserving
from .book import ENDED, Book, Hits, Seen
from .contract import JobRef, Swept
from .operation import Span, Wanted
from .resolving import Doubt
from .rows import stamp
from .why import Why

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
    at: datetime

    def wants(self, wanted: Wanted) -> None:
        """The job."""
        wanted.jobs.add(self.job)

    def apply(self, book: Book) -> None:
        """Count it."""
        job, hits = book.job(self.job), book.hits.setdefault(self.job, Hits(self.at))
        for counted in (job, hits):
            counted.saved += self.saved
        job.hits, hits.count = job.hits + 1, hits.count + 1

    def afterwards(self) -> None:
        """A statistic: not worth keeping."""


@dataclass(frozen=True, slots=True)
class Moved:
    """An answer's body lies in the object store."""

    key: str
    hold: str
    """That bought it: what was bought since under the same key is another answer."""
    location: str

    def wants(self, wanted: Wanted) -> None:
        """Nothing: the row is changed in place."""

    def apply(self, book: Book) -> None:
        """Forget the body here."""
        book.moved.append((self.key, self.hold, self.location))

    def afterwards(self) -> None:
        """It will be moved again, to the same place."""


@dataclass(frozen=True, slots=True)
class Forget:
    """An answer is lost or of no use; the next who asks buys it again."""

    key: str
    at: datetime
    why: str
    """A word of the closed list, or what a person says."""
    hold: str | None = None
    """That bought it, where one purchase is meant: by now another one may be in its place. None: whatever is there."""

    def wants(self, wanted: Wanted) -> None:
        """Whether it is there."""
        wanted.answers.add(self.key)

    def apply(self, book: Book) -> bool:
        """Drop it from the index, if it is still there; what was paid for it stays paid."""
        found = book.answered.get(self.key)
        if found is None or (self.hold is not None and self.hold != found):
            return False
        del book.answered[self.key]
        book.forgotten.append(self.key)
        # it may have been bought in this very transaction
        book.answers = [row for row in book.answers if row.key != self.key]
        book.enter("forget", self.at, request=self.key, why=self.why)
        return True

    def afterwards(self) -> None:
        """Who misses it next finds out."""

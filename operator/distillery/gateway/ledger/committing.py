"""A batch of operations in one transaction: all that were not refused are on disk when `commit` returns, or none."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from sqlalchemy import Connection, Engine, insert, select, update
from sqlalchemy.exc import DBAPIError

from . import database, loading, saving, schema
from .book import Book, Hits
from .chain import FORMAT
from .contract import Fenced, JobRef, LedgerError, ReadOnly
from .decisions import Accept
from .migrations import migrate
from .operation import Operation, Wanted
from .rows import stamp
from .statements import Cursor
from .upkeep import Sweep


class Outage(Exception):
    """The database did not take a transaction, for no fault of the transaction. It may have been committed all the same."""


class Committer:
    """The writing end of a ledger. `writer` is the number under which this gateway holds; 0 for a person's decision beside it."""

    def __init__(self, engine: Engine, writer: int) -> None:
        self._engine, self.writer = engine, writer
        self._exclusive = database.exclusive(engine)
        self.read_only: str | None = None
        """As the last transaction saw it."""

    def commit(self, operations: Sequence[Operation]) -> list[object]:
        """What each returned, or the LedgerError that it raised.

        Raises Fenced, Outage, or for a value that the database refuses ValueError: then nothing is known to be committed.
        """
        driver = self._engine.dialect.loaded_dbapi
        try:
            with self._engine.begin() as connection:
                try:
                    return self._committed(connection, operations)
                except driver.Error:
                    connection.invalidate()
                    raise
        except (DBAPIError, driver.Error) as error:
            cause = error.orig if isinstance(error, DBAPIError) else error
            if isinstance(cause, (driver.IntegrityError, driver.DataError, driver.ProgrammingError)):
                raise ValueError(str(cause)) from error
            raise Outage(str(cause)) from error

    def _committed(self, connection: Connection, operations: Sequence[Operation]) -> list[object]:
        wanted, cursor = Wanted(), Cursor(connection)
        for operation in operations:
            operation.wants(wanted)
        head = loading.head(cursor)
        if self._exclusive and self.writer and head.epoch != self.writer:
            raise Fenced(f"gateway {head.epoch} has opened this ledger after gateway {self.writer}: end this process")
        book = loading.load(cursor, head, self.writer, wanted, exclusive=self._exclusive)
        outcomes: list[object] = []
        for operation in operations:
            try:
                if head.read_only is not None and not isinstance(operation, Accept):
                    raise ReadOnly(head.read_only)
                outcomes.append(operation.apply(book))
            except LedgerError as error:
                outcomes.append(error)
        book.enter_hits()
        saving.save(cursor, book)
        self.read_only = head.read_only
        return outcomes


def opened(engine: Engine, at: datetime) -> Committer:
    """Migrate, become the newest writer (on SQLite the older one is fenced by it) and put in doubt what dead ones left."""
    with engine.begin() as connection:
        migrate(connection, at)
        _upgrade(connection, at)
        epoch = loading.head(Cursor(connection)).epoch + 1
        connection.execute(update(schema.head).values(epoch=epoch))
        connection.execute(insert(schema.writers), {"id": epoch, "opened_at": stamp(at), "seen_at": stamp(at)})
    committer = Committer(engine, epoch)
    committer.commit([Sweep(at)])
    return committer


def _upgrade(connection: Connection, at: datetime) -> None:
    """From here on the entries of an older ledger tell all; what those before did not is entered once."""
    cursor = Cursor(connection)
    book = Book(loading.head(cursor), 0)
    if not book.head.sequence or book.head.format == FORMAT:
        return
    book.upgrade(at)
    for job in connection.execute(select(schema.jobs).where(schema.jobs.c.hits > 0).order_by(schema.jobs.c.uid, schema.jobs.c.budget)):
        book.hits[JobRef(job.budget, job.uid)] = Hits(at, job.hits, job.saved)
    book.enter_hits()
    saving.save(cursor, book)

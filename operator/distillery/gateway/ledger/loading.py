"""Rows from the database, as a batch needs them: locked in one order, so that writers take turns."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from sqlalchemy import Connection, bindparam, select

from . import schema
from .book import Book
from .contract import JobRef
from .operation import Wanted
from .rows import AccountRow, HeadRow, HoldRow, JobRow, ReservationRow

_HEAD = select(schema.head).with_for_update()
_ACCOUNTS = select(schema.accounts).order_by(schema.accounts.c.id).with_for_update()
_ACCOUNTS_BY_KEY = _ACCOUNTS.where(
    schema.accounts.c.budget.in_(bindparam("budgets", expanding=True)), schema.accounts.c.period.in_(bindparam("periods", expanding=True))
)
_ACCOUNTS_BY_ID = _ACCOUNTS.where(schema.accounts.c.id.in_(bindparam("ids", expanding=True)))
_OVERRUNS = _ACCOUNTS.where(schema.accounts.c.budget.in_(bindparam("budgets", expanding=True)), schema.accounts.c.overrun > 0)
_JOBS = select(schema.jobs).where(schema.jobs.c.uid.in_(bindparam("uids", expanding=True)))
_RESERVATIONS = select(schema.reservations).where(schema.reservations.c.id.in_(bindparam("ids", expanding=True)))
_IDLE = select(schema.reservations.c.id).where(
    schema.reservations.c.closed_at.is_(None), ~schema.reservations.c.seen_at.between(bindparam("earliest"), bindparam("latest"))
)
_HOLDS = select(schema.holds).where(schema.holds.c.id.in_(bindparam("ids", expanding=True)))
_STRAYS = (
    select(schema.holds.c.id)
    .join(schema.writers, schema.writers.c.id == schema.holds.c.writer)
    .where(
        schema.holds.c.state == "dispatched",
        schema.holds.c.writer != bindparam("writer"),
        ~schema.writers.c.seen_at.between(bindparam("earliest"), bindparam("latest")),
    )
)
_ANSWERED = select(schema.answers.c.key).where(schema.answers.c.key.in_(bindparam("keys", expanding=True)))
#: No time lies between.
_NEVER = ("9", "0")


def head(connection: Connection) -> HeadRow:
    """The head row, locked: writers of Postgres take turns here, so all that follows reads what the one before committed."""
    return HeadRow(*connection.execute(_HEAD).one())


def load(connection: Connection, at: HeadRow, writer: int, wanted: Wanted, *, exclusive: bool) -> Book:
    """The rows that a batch reads."""
    book = Book(at, writer)
    if wanted.writers_seen is not None:
        # the one writer of SQLite knows that all others are gone
        earliest, latest = _NEVER if exclusive else wanted.writers_seen
        found = connection.execute(_STRAYS, {"writer": writer, "earliest": earliest, "latest": latest})
        book.strays = list(found.scalars())
    if wanted.jobs_seen is not None:
        earliest, latest = wanted.jobs_seen
        book.idle = list(connection.execute(_IDLE, {"earliest": earliest, "latest": latest}).scalars())
    if holds := wanted.holds.union(book.strays):
        book.holds = {row[0]: HoldRow(*row) for row in connection.execute(_HOLDS, {"ids": list(holds)})}
    reservations = {hold.reservation for hold in book.holds.values()}.union(book.idle)
    if wanted.jobs:
        _add_jobs(connection, book, {job.uid for job in wanted.jobs})
    reservations.update(job.reservation for job in book.jobs.values() if job.reservation is not None)
    if reservations:
        for row in connection.execute(_RESERVATIONS, {"ids": list(reservations)}):
            numbers = tuple(map(int, row[3].split(",")))
            book.reservations[row[0]] = ReservationRow(row[0], row[1], row[2], numbers, *row[4:])
        _add_jobs(connection, book, {row.uid for row in book.reservations.values()} - {job.uid for job in book.jobs})
    _add_accounts(connection, book, wanted)
    if wanted.answers:
        book.answered = set(connection.execute(_ANSWERED, {"keys": list(wanted.answers)}).scalars())
    return book


def _add_jobs(connection: Connection, book: Book, uids: Collection[str]) -> None:
    if uids:
        for row in connection.execute(_JOBS, {"uids": list(uids)}):
            book.jobs[JobRef(row[0], row[1])] = JobRow(*row)


def _add_accounts(connection: Connection, book: Book, wanted: Wanted) -> None:
    found: list[Any] = []
    if wanted.accounts:
        periods = {account.id for account in wanted.accounts} | {book.head.clock, book.head.clock[:7]}
        budgets = {account.budget for account in wanted.accounts}
        found += connection.execute(_ACCOUNTS_BY_KEY, {"budgets": list(budgets), "periods": list(periods)}).all()
    if wanted.overruns:
        found += connection.execute(_OVERRUNS, {"budgets": list(wanted.overruns)}).all()
    missing = {number for row in book.reservations.values() for number in row.accounts} - {row[0] for row in found}
    if missing:
        found += connection.execute(_ACCOUNTS_BY_ID, {"ids": list(missing)}).all()
    for row in found:
        book.add(AccountRow(*row))

"""Rows from the database, as a batch needs them: locked in one order, so that writers take turns."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from sqlalchemy import BindParameter, bindparam, literal_column, select

from . import schema
from .book import Book
from .contract import JobRef
from .operation import Wanted
from .rows import AccountRow, HeadRow, HoldRow, JobRow, ReservationRow
from .statements import Cursor, Query


def _any(name: str) -> Any:
    return bindparam(name, expanding=True)


_accounts, _jobs, _reservations, _holds = schema.accounts.c, schema.jobs.c, schema.reservations.c, schema.holds.c
_seen: tuple[BindParameter[str], BindParameter[str]] = (bindparam("earliest"), bindparam("latest"))
_HEAD = Query(select(schema.head).with_for_update())
_ACCOUNTS = select(schema.accounts).order_by(_accounts.id).with_for_update()
_ACCOUNTS_BY_KEY = Query(
    _ACCOUNTS.where(_accounts.budget.in_(_any("budgets")), _accounts.period.in_(_any("periods"))), "budgets", "periods"
)
_ACCOUNTS_BY_ID = Query(_ACCOUNTS.where(_accounts.id.in_(_any("ids"))), "ids")
_OVERRUNS = Query(_ACCOUNTS.where(_accounts.budget.in_(_any("budgets")), _accounts.overrun > literal_column("0")), "budgets")
_JOBS = Query(select(schema.jobs).where(_jobs.uid.in_(_any("uids"))), "uids")
_RESERVATIONS = Query(select(schema.reservations).where(_reservations.id.in_(_any("ids"))), "ids")
_IDLE = Query(
    select(_reservations.id).where(_reservations.closed_at.is_(None), ~_reservations.seen_at.between(*_seen)), "earliest", "latest"
)
_HOLDS = Query(select(schema.holds).where(_holds.id.in_(_any("ids"))), "ids")
_STRAYS = Query(
    select(_holds.id)
    .join(schema.writers, schema.writers.c.id == _holds.writer)
    .where(_holds.state == literal_column("'dispatched'"), _holds.writer != bindparam("writer"), ~schema.writers.c.seen_at.between(*_seen)),
    "writer", "earliest", "latest",
)  # fmt: skip
_writers = schema.writers.c
_LIVE = Query(select(_writers.id, _writers.known, _writers.seen_at).where(_writers.seen_at.between(*_seen)), "earliest", "latest")
_ASKED = Query(
    select(_holds.request_key, _holds.id).where(
        _holds.state == literal_column("'dispatched'"), _holds.writer != bindparam("writer"), _holds.request_key.in_(_any("keys"))
    ),
    "writer", "keys",
)  # fmt: skip
_ANSWERED = Query(select(schema.answers.c.key, schema.answers.c.hold).where(schema.answers.c.key.in_(_any("keys"))), "keys")
#: No time lies between.
_NEVER = ("9", "0")


def head(cursor: Cursor) -> HeadRow:
    """The head row, locked: writers of Postgres take turns here, so all that follows reads what the one before committed."""
    return HeadRow(*cursor.rows(_HEAD)[0])


def load(cursor: Cursor, at: HeadRow, writer: int, wanted: Wanted, *, exclusive: bool) -> Book:
    """The rows that a batch reads."""
    book = Book(at, writer)
    if wanted.writers_seen is not None:
        # the one writer of SQLite knows that all others are gone
        earliest, latest = _NEVER if exclusive else wanted.writers_seen
        book.strays = [row[0] for row in cursor.rows(_STRAYS, [writer], [earliest], [latest])]
    if wanted.gateways_seen is not None and not exclusive:
        earliest, latest = wanted.gateways_seen
        book.gateways = [(row[0], row[1], row[2]) for row in cursor.rows(_LIVE, [earliest], [latest])]
    if wanted.jobs_seen is not None:
        earliest, latest = wanted.jobs_seen
        book.idle = [row[0] for row in cursor.rows(_IDLE, [earliest], [latest])]
    if holds := wanted.holds.union(book.strays):
        book.holds = {row[0]: HoldRow(*row) for row in cursor.rows(_HOLDS, holds)}
    reservations = {hold.reservation for hold in book.holds.values()}.union(book.idle)
    _add_jobs(cursor, book, {job.uid for job in wanted.jobs})
    reservations.update(job.reservation for job in book.jobs.values() if job.reservation is not None)
    if reservations:
        for row in cursor.rows(_RESERVATIONS, reservations):
            numbers = tuple(map(int, row[3].split(",")))
            book.reservations[row[0]] = ReservationRow(row[0], row[1], row[2], numbers, *row[4:])
        _add_jobs(cursor, book, {row.uid for row in book.reservations.values()} - {job.uid for job in book.jobs})
    _add_accounts(cursor, book, wanted)
    if wanted.questions and not exclusive:
        book.elsewhere = {row[0]: None for row in cursor.rows(_ANSWERED, wanted.questions)}
        book.elsewhere |= {row[0]: row[1] for row in cursor.rows(_ASKED, [writer], wanted.questions)}
    if wanted.answers:
        book.answered = {row[0]: row[1] for row in cursor.rows(_ANSWERED, wanted.answers)}
    return book


def _add_jobs(cursor: Cursor, book: Book, uids: Collection[str]) -> None:
    if uids:
        for row in cursor.rows(_JOBS, uids):
            book.jobs[JobRef(row[0], row[1])] = JobRow(*row)


def _add_accounts(cursor: Cursor, book: Book, wanted: Wanted) -> None:
    found: list[Any] = []
    if wanted.accounts:
        periods = {account.id for account in wanted.accounts} | {book.head.clock, book.head.clock[:7]}
        found += cursor.rows(_ACCOUNTS_BY_KEY, {account.budget for account in wanted.accounts}, periods)
    if wanted.overruns:
        found += cursor.rows(_OVERRUNS, wanted.overruns)
    if missing := {number for row in book.reservations.values() for number in row.accounts} - {row[0] for row in found}:
        found += cursor.rows(_ACCOUNTS_BY_ID, missing)
    for row in found:
        book.add(AccountRow(*row))

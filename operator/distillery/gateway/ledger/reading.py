"""Questions to the ledger, answered beside the writer from what is committed."""

from __future__ import annotations

import hashlib
import sqlite3
import zlib
from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Engine, bindparam, func, literal_column, select

from . import schema
from .chain import Entry
from .contract import Account, Head, HoldState, JobRef, JobUsage, StoredAnswer, Unavailable, WindowUse

_ANSWERS = (
    select(
        schema.answers, schema.reservations.c.budget, schema.holds.c.teacher, schema.holds.c.terms,
        schema.holds.c.billed.label("cost"), schema.holds.c.tokens_in, schema.holds.c.tokens_out,
    )
    .join(schema.holds, schema.holds.c.id == schema.answers.c.hold)
    .join(schema.reservations, schema.reservations.c.id == schema.holds.c.reservation)
)  # fmt: skip
_ANSWER = _ANSWERS.where(schema.answers.c.key == bindparam("key"))
_UNMOVED = _ANSWERS.where(schema.answers.c.location.is_(None)).order_by(schema.answers.c.at).limit(bindparam("most"))
_ASKED = select(schema.holds.c.id).where(
    schema.holds.c.state == literal_column("'dispatched'"),
    schema.holds.c.writer != bindparam("writer"),
    schema.holds.c.request_key == bindparam("key"),
)
_STATE = select(schema.holds.c.state).where(schema.holds.c.id == bindparam("hold"))
_USAGE = (
    select(schema.jobs, func.coalesce(schema.reservations.c.amount, 0).label("reserved"))
    .outerjoin(schema.reservations, schema.reservations.c.id == schema.jobs.c.reservation)
    .where(schema.jobs.c.budget == bindparam("budget"), schema.jobs.c.uid == bindparam("uid"))
)
_ACCOUNTS = select(schema.accounts).where(
    schema.accounts.c.budget.in_(bindparam("budgets", expanding=True)), schema.accounts.c.period.in_(bindparam("periods", expanding=True))
)
_SAVED = select(func.coalesce(func.sum(schema.jobs.c.saved), 0)).where(schema.jobs.c.budget == bindparam("budget"))
_ENTRIES = select(schema.entries).where(schema.entries.c.sequence > bindparam("after")).order_by(schema.entries.c.sequence)


class Lookup:
    """Answers by key from a connection to SQLite of its own: no thread, no transaction, about 30 microseconds."""

    def __init__(self, engine: Engine) -> None:
        self._pooled = engine.raw_connection()
        self._statement = str(_ANSWER.compile(dialect=engine.dialect))

    def answer(self, key: str) -> StoredAnswer | None:
        """A bought answer. Raises Unavailable."""
        cursor = self._pooled.cursor()
        try:
            cursor.execute(self._statement, (key,))
            row = cursor.fetchone()
        except sqlite3.Error as error:
            raise Unavailable(f"the ledger's database does not answer: {error}") from error
        finally:
            cursor.close()
        return None if row is None else _answer(dict(zip(_ANSWERS.selected_columns.keys(), row, strict=True)))

    def close(self) -> None:
        """Give the connection back."""
        self._pooled.close()


def answer(connection: Connection, key: str) -> StoredAnswer | None:
    """A bought answer."""
    row = connection.execute(_ANSWER, {"key": key}).one_or_none()
    return None if row is None else _answer(row._mapping)


def asked_elsewhere(connection: Connection, key: str, writer: int) -> str | None:
    """The hold of another gateway on this question."""
    return connection.execute(_ASKED, {"key": key, "writer": writer}).scalars().first()


def state(connection: Connection, hold: str) -> HoldState | None:
    """Of a hold."""
    return connection.execute(_STATE, {"hold": hold}).scalar_one_or_none()


def unmoved(connection: Connection, most: int, most_bytes: int) -> list[StoredAnswer]:
    """The oldest answers whose body is in the database: one at least, then until they have so many bytes."""
    found, size = [], 0
    # a few at a time: one alone may be as long as all of them should be
    for row in connection.execute(_UNMOVED.execution_options(yield_per=2), {"most": most}):
        found.append(_answer(row._mapping))
        size += len(found[-1].body or b"")
        if size >= most_bytes:
            break
    return found


def _answer(row: Mapping[Any, Any]) -> StoredAnswer:
    """With its body, if that lies here and is what was bought; it is looked at each time, for disks and people change bytes."""
    body = None if row["body"] is None else intact(row["body"], row["digest"])
    return StoredAnswer(**{**row, "body": body, "at": datetime.fromisoformat(row["at"])})


def intact(packed: bytes, digest: str) -> bytes | None:
    """A body as it was stored; None where it has another digest by now."""
    try:
        body = zlib.decompress(packed)
    except (zlib.error, TypeError):
        return None
    return body if hashlib.sha256(body).hexdigest() == digest else None


def jobs(connection: Connection, uid: str) -> list[JobRef]:
    """Every account of a job: its budget may have been changed while it was suspended."""
    found = select(schema.jobs.c.budget).where(schema.jobs.c.uid == uid).order_by(schema.jobs.c.budget)
    return [JobRef(budget, uid) for budget in connection.execute(found).scalars()]


def usage(connection: Connection, job: JobRef) -> JobUsage:
    """What a job has asked and paid."""
    row = connection.execute(_USAGE, {"budget": job.budget, "uid": job.uid}).one_or_none()
    if row is None:
        return JobUsage()
    return JobUsage(**{name: getattr(row, name) for name in JobUsage.__dataclass_fields__})


def windows(connection: Connection, accounts: tuple[Account, ...]) -> list[WindowUse]:
    """Balances of the accounts, in their order; zeros for one that was never used."""
    asked = {"budgets": list({account.budget for account in accounts}), "periods": list({account.id for account in accounts})}
    found = {(row.budget, row.span, row.period, row.unit): row for row in connection.execute(_ACCOUNTS, asked)} if accounts else {}
    uses = []
    for account in accounts:
        row = found.get((account.budget, account.window, account.id, account.unit))
        balances = (0, 0, 0, 0, 0) if row is None else (row.settled, row.held, row.reserved, row.in_doubt, row.overrun)
        uses.append(WindowUse(account, *balances))
    return uses


def saved(connection: Connection, budget: str) -> int:
    """What the cache saved all jobs of a budget. (Postgres sums to a decimal.)"""
    return int(connection.execute(_SAVED, {"budget": budget}).scalar_one())


def head(connection: Connection) -> Head:
    """The end of the chain."""
    return Head(*connection.execute(select(schema.head.c.sequence, schema.head.c.digest)).one())


def entries(connection: Connection, after: int, most: int | None = None) -> Iterator[Entry]:
    """Entries with a sequence above `after`, in order, streamed."""
    for row in connection.execute(_ENTRIES.limit(most), {"after": after}, execution_options={"yield_per": 1000}):
        yield Entry(*row)

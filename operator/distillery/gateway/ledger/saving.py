"""Rows to the database: what a transaction changed, many rows per call."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeVar

from sqlalchemy import Table, bindparam, delete, insert, null, update

from . import schema
from .book import ENDED, Book
from .statements import Change, Cursor

K = TypeVar("K")


@dataclass(frozen=True, slots=True)
class _Value:
    """Parameters of a statement that writes no row of its own."""

    key: object
    value: object = None
    hold: object = None


def _names(table: Table) -> list[str]:
    return [column.name for column in table.c]


def _inserting(table: Table) -> Change:
    return Change(insert(table), _names(table), accounts="listed")


def _updating(table: Table) -> Change:
    keys = table.primary_key.columns.keys()
    statement = update(table).where(*(table.c[key] == bindparam(f"key_{key}") for key in keys))
    columns = [name for name in _names(table) if name not in keys]
    return Change(statement, columns, accounts="listed", **{f"key_{key}": key for key in keys})


_TABLES = (schema.accounts, schema.reservations, schema.jobs, schema.holds)
_INSERT = {table: _inserting(table) for table in (*_TABLES, schema.answers, schema.entries)}
_UPDATE = {table: _updating(table) for table in (*_TABLES, schema.head)}
_FORGET = Change(delete(schema.answers).where(schema.answers.c.key == bindparam("key_")), key_="key")
_MOVE = Change(
    update(schema.answers)
    .where(schema.answers.c.key == bindparam("key_"), schema.answers.c.hold == bindparam("hold_"))
    .values(body=null(), location=bindparam("value_")),
    key_="key", hold_="hold", value_="value",
)  # fmt: skip
_LEAVE = Change(
    update(schema.writers).where(schema.writers.c.id == bindparam("key_")).values(known=bindparam("value_")), key_="key", value_="value"
)
_SEEN = Change(update(schema.writers).where(schema.writers.c.id == bindparam("key_")), ["seen_at", "known"], key_="writer", seen_at="at")


def save(cursor: Cursor, book: Book) -> None:
    """Write what changed: each table's new rows, then its changed ones."""
    _write(cursor, schema.accounts, book.accounts, book.new_accounts, book.touched_accounts)
    _write(cursor, schema.reservations, book.reservations, book.new_reservations, book.touched_reservations)
    _write(cursor, schema.jobs, book.jobs, book.new_jobs, book.touched_jobs)
    _write(cursor, schema.holds, book.holds, book.new_holds, book.touched_holds)
    cursor.change(_FORGET, [_Value(key) for key in book.forgotten])
    cursor.change(_INSERT[schema.answers], book.answers)
    cursor.change(_INSERT[schema.entries], book.entries)
    cursor.change(_MOVE, [_Value(key, location, hold) for key, hold, location in book.moved])
    if book.seen is not None:
        cursor.change(_SEEN, [book.seen])
    if book.leaves:
        cursor.change(_LEAVE, [_Value(book.writer, ENDED)])
    cursor.change(_UPDATE[schema.head], [book.head])


def _write(cursor: Cursor, table: Table, rows: Mapping[K, object], new: set[K], touched: set[K]) -> None:
    cursor.change(_INSERT[table], [rows[key] for key in new])
    cursor.change(_UPDATE[table], [rows[key] for key in touched - new])

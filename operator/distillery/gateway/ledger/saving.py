"""Rows to the database: statements compiled once, many rows per call, since they are most of what a request costs here."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cache
from operator import attrgetter
from typing import Any, TypeVar

from sqlalchemy import Connection, Dialect, Insert, Table, Update, bindparam, delete, insert, update
from sqlalchemy.dialects.postgresql import psycopg
from sqlalchemy.dialects.sqlite import pysqlite

from . import schema
from .book import Book

K = TypeVar("K")
#: Statements and the attributes whose values they take, in order.
_Compiled = tuple[str, Callable[[object], tuple[object, ...]]]
#: Attributes that are written otherwise than they are held.
_WRITTEN = {"accounts": "listed", "key_id": "id", "key_budget": "budget", "key_uid": "uid"}


def save(connection: Connection, book: Book) -> None:
    """Write what changed: each table's new rows, then its changed ones."""
    _write(connection, schema.accounts, book.accounts, book.new_accounts, book.touched_accounts)
    _write(connection, schema.reservations, book.reservations, book.new_reservations, book.touched_reservations)
    _write(connection, schema.jobs, book.jobs, book.new_jobs, book.touched_jobs)
    _write(connection, schema.holds, book.holds, book.new_holds, book.touched_holds)
    if book.forgotten:
        connection.execute(delete(schema.answers).where(schema.answers.c.key.in_(book.forgotten)))
    _many(connection, _inserting(schema.answers, connection.dialect.name), book.answers)
    _many(connection, _inserting(schema.entries, connection.dialect.name), book.entries)
    if book.moved:
        statement = update(schema.answers).where(schema.answers.c.key == bindparam("moved")).values(body=None)
        connection.execute(statement, [{"moved": key, "location": location} for key, location in book.moved])
    if book.seen is not None:
        connection.execute(update(schema.writers).where(schema.writers.c.id == book.writer).values(seen_at=book.seen))
    _many(connection, _updating(schema.head, connection.dialect.name), [book.head])


def _write(connection: Connection, table: Table, rows: Mapping[K, object], new: set[K], touched: set[K]) -> None:
    _many(connection, _inserting(table, connection.dialect.name), [rows[key] for key in new])
    _many(connection, _updating(table, connection.dialect.name), [rows[key] for key in touched - new])


def _many(connection: Connection, compiled: _Compiled, rows: Sequence[object]) -> None:
    if rows:
        statement, values = compiled
        connection.exec_driver_sql(statement, [values(row) for row in rows])


@cache
def _inserting(table: Table, dialect: str) -> _Compiled:
    names = [column.name for column in table.c]
    return _compiled(insert(table), names, dialect)


@cache
def _updating(table: Table, dialect: str) -> _Compiled:
    keys = [column.name for column in table.primary_key]
    statement = update(table).where(*(table.c[key] == bindparam(f"key_{key}") for key in keys))
    return _compiled(statement, [column.name for column in table.c if column.name not in keys], dialect)


def _compiled(statement: Insert | Update, names: Iterable[str], dialect: str) -> _Compiled:
    """With positional parameters on both databases, so that a row is one tuple."""
    made: Dialect = pysqlite.dialect() if dialect == "sqlite" else psycopg.dialect(paramstyle="format")  # type: ignore[no-untyped-call]
    compiled: Any = statement.compile(dialect=made, column_keys=list(names))
    return str(compiled), attrgetter(*(_WRITTEN.get(name, name) for name in compiled.positiontup))

"""Copies of a ledger. Each is marked read-only: it knows of less than was spent since, so a person has to look before it grants."""

from __future__ import annotations

import base64
import json
import os
import shutil
import sqlite3
from collections.abc import Iterable, Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, LargeBinary, Table, func, insert, select, text, update

from . import database, reading, schema
from .contract import Head, LedgerError
from .migrations import STEPS, migrate
from .rows import stamp

_MAGIC = b"SQLite format 3\0"
#: Rows per statement of a restore.
_CHUNK = 500


def backup(engine: Engine, target: Path, at: datetime) -> Head:
    """Write a copy while the gateway goes on: a database file of SQLite, JSON lines of Postgres. The target appears whole or not at all."""
    if target.exists():
        raise LedgerError(f"backup {target}: the file exists; name another one")
    partial = target.with_name(f"{target.name}.partial")
    partial.unlink(missing_ok=True)
    head = _copied(engine, partial, at) if database.exclusive(engine) else _dumped(engine, partial, at)
    with partial.open("rb") as written:
        os.fsync(written.fileno())
    partial.rename(target)
    return head


def restore(source: Path, url: str, at: datetime) -> Head:
    """Make a ledger of a copy, read-only until it is accepted. The database must be empty: an existing ledger is never overwritten."""
    with source.open("rb") as opened:
        binary = opened.read(len(_MAGIC)) == _MAGIC
    engine = database.connect(url)
    try:
        if binary:
            _put(source, engine)
        with engine.begin() as connection:
            migrate(connection, at)
            if not binary:
                with source.open(encoding="utf-8") as lines:
                    _load(connection, lines, source)
            return reading.head(connection)
    finally:
        engine.dispose()


def _reason(head: Head, at: datetime) -> str:
    return (
        f"restored from the backup of {stamp(at)[:19]}Z at entry {head.sequence}: what was spent after it is missing;"
        " compare with the provider's bill, then run `distillery-gateway ledger accept`"
    )


def _copied(engine: Engine, target: Path, at: datetime) -> Head:
    with engine.connect() as connection:
        raw = connection.connection.driver_connection
        assert isinstance(raw, sqlite3.Connection)
        raw.execute("VACUUM INTO ?", (str(target),))
    copy = database.connect(f"sqlite:///{target}")
    try:
        with copy.begin() as connection:
            head = reading.head(connection)
            connection.execute(update(schema.head).values(read_only=_reason(head, at)))
        with copy.connect() as connection:
            connection.connection.driver_connection.execute("PRAGMA journal_mode=DELETE")  # type: ignore[union-attr]
    finally:
        copy.dispose()
    return head


def _dumped(engine: Engine, target: Path, at: datetime) -> Head:
    with engine.connect().execution_options(isolation_level="REPEATABLE READ") as connection, target.open("w", encoding="utf-8") as lines:
        connection.execute(text("SET LOCAL statement_timeout = 0"))
        head = reading.head(connection)
        lines.write(json.dumps({"ledger": "distillery", "schema": len(STEPS), "reason": _reason(head, at)}) + "\n")
        for table in schema.DUMPED:
            for row in connection.execution_options(yield_per=1000).execute(select(table)):
                lines.write(json.dumps({"table": table.name, "row": [_plain(value) for value in row]}, ensure_ascii=False) + "\n")
    return head


def _plain(value: Any) -> Any:
    return {"base64": base64.b64encode(value).decode()} if isinstance(value, bytes) else value


def _put(source: Path, engine: Engine) -> None:
    if not database.exclusive(engine):
        raise LedgerError(f"backup {source}: a file of SQLite cannot become a database of Postgres: restore it to sqlite:////path")
    target = Path(str(engine.url.database))
    if target.exists():
        raise LedgerError(f"ledger {target}: the file exists; move it away first, an existing ledger is never overwritten")
    partial = target.with_name(f"{target.name}.partial")
    shutil.copyfile(source, partial)
    with partial.open("rb") as written:
        os.fsync(written.fileno())
    partial.rename(target)


def _load(connection: Connection, lines: Iterable[str], source: Path) -> None:
    header = json.loads(next(iter(lines)))
    if not isinstance(header, dict) or header.get("ledger") != "distillery" or header.get("schema") != len(STEPS):
        raise LedgerError(f"backup {source}: made by schema {header.get('schema')}, this program has {len(STEPS)}: use the image of then")
    if connection.execute(select(func.count()).select_from(schema.entries)).scalar_one():
        raise LedgerError("the database holds a ledger: restore into an empty one, an existing ledger is never overwritten")
    connection.execute(schema.head.delete())
    for table, rows in _chunks(lines):
        connection.execute(insert(table), rows)
    connection.execute(update(schema.head).values(read_only=header["reason"]))


def _chunks(lines: Iterable[str]) -> Iterator[tuple[Table, list[dict[str, Any]]]]:
    """Rows of one table at a time, as many as one statement takes."""
    current = schema.head
    rows: list[dict[str, Any]] = []
    for line in lines:
        record = json.loads(line)
        table = schema.metadata.tables[record["table"]]
        if rows and (table is not current or len(rows) == _CHUNK):
            yield current, rows
            rows = []
        current = table
        values = (_bytes(column.type, value) for column, value in zip(table.c, record["row"], strict=True))
        rows.append(dict(zip(table.c.keys(), values, strict=True)))
    if rows:
        yield current, rows


def _bytes(kind: object, value: Any) -> Any:
    return base64.b64decode(value["base64"]) if isinstance(kind, LargeBinary) and value is not None else value

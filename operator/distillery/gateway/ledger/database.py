"""Connections: SQLite as durable as it can be, or Postgres; the same SQL for both."""

from __future__ import annotations

import logging
import os
import sqlite3
import stat
from contextlib import suppress
from pathlib import Path

from sqlalchemy import Connection, Engine, create_engine, event, make_url
from sqlalchemy.pool import ConnectionPoolEntry

log = logging.getLogger(__name__)
#: What a tenant's prompts and answers lie in is for its owner alone.
PRIVATE = 0o600
#: A writer of Postgres that hangs or is cut off must not hold the head row for long.
_POSTGRES = "-c synchronous_commit=on -c lock_timeout=10s -c idle_in_transaction_session_timeout=10s -c statement_timeout=30s"
#: Nor must a server that is gone keep a gateway from ending in time: seconds to connect, milliseconds for what was sent to be received.
_PATIENCE = {"connect_timeout": 5, "tcp_user_timeout": 15_000}


def connect(url: str, *, reading: bool = False) -> Engine:
    """Of `sqlite:///path` or `postgresql://…`. Transactions of SQLite take the write lock at once, unless they only read."""
    parsed, size = make_url(url), 3 if reading else 1
    if parsed.get_backend_name() == "postgresql":
        parsed, given = parsed.set(drivername="postgresql+psycopg"), {"options": _POSTGRES, **_PATIENCE}
        return create_engine(parsed, pool_size=size, max_overflow=0, pool_pre_ping=reading, connect_args=given)
    if parsed.get_backend_name() != "sqlite" or not parsed.database:
        raise ValueError(f"ledger database {parsed.render_as_string()}: give sqlite:////path/to/file or postgresql://user@host/database")
    make_private(Path(parsed.database))
    engine = create_engine(parsed, pool_size=size, max_overflow=0, connect_args={"check_same_thread": False, "timeout": 5})
    event.listen(engine, "connect", _prepare_reader if reading else _prepare_writer)
    event.listen(engine, "begin", _begin if reading else _begin_immediate)
    return engine


def look_at(url: str) -> Engine:
    """For whoever only reads a ledger that is there: SQLite would make a file of a mistyped name, and nothing would be found in it."""
    parsed = make_url(url)
    if parsed.get_backend_name() == "sqlite" and parsed.database and not Path(parsed.database).exists():
        raise ValueError(f"ledger {parsed.database}: there is no such file; give the path of a ledger that is there")
    return connect(url, reading=True)


def make_private(path: Path) -> None:
    """Make the file of a database for its owner alone, before there is anything in it; an older one is closed to others now.

    SQLite gives -wal and -shm the mode of the file. A volume that Kubernetes gives a group (fsGroup) opens files to that group at each
    mount: so at each opening. Where the file cannot be made, the database says so.
    """
    if not path.exists() and (log_file := path.with_name(f"{path.name}-wal")).exists():
        raise ValueError(f"ledger {path}: it is not there, its log {log_file.name} is, and would be read into a new one: move both away")
    with suppress(OSError):
        os.close(os.open(path, os.O_CREAT | os.O_RDWR, PRIVATE))
    for name in (path.name, f"{path.name}-wal", f"{path.name}-shm"):
        file = path.with_name(name)
        with suppress(FileNotFoundError):
            _close_to_others(file)


def _close_to_others(file: Path) -> None:
    mode = stat.S_IMODE(file.stat().st_mode)
    if not mode & 0o077:
        return
    try:
        file.chmod(PRIVATE)
    except PermissionError:
        log.warning("%s has mode %o and belongs to another user: `chmod 600` it, prompts and answers are in it", file, mode)


def exclusive(engine: Engine) -> bool:
    """Whether one gateway at a time may write: SQLite, whose file has one owner. On Postgres replicas take turns by row locks."""
    return engine.dialect.name == "sqlite"


def _prepare_writer(connection: sqlite3.Connection, _entry: ConnectionPoolEntry) -> None:
    connection.isolation_level = None  # transactions are begun by us, not by the driver
    for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON"):
        connection.execute(f"PRAGMA {pragma}")


def _prepare_reader(connection: sqlite3.Connection, _entry: ConnectionPoolEntry) -> None:
    connection.isolation_level = None
    connection.execute("PRAGMA query_only=ON")


def _begin(connection: Connection) -> None:
    connection.exec_driver_sql("BEGIN")


def _begin_immediate(connection: Connection) -> None:
    connection.exec_driver_sql("BEGIN IMMEDIATE")

"""Numbered steps of the schema. A step that shipped is never changed; the next one has the next number."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import Connection, inspect, text

from .chain import GENESIS
from .contract import LedgerError
from .rows import stamp

#: Serialises migrations of replicas on Postgres: an arbitrary number, the same for all.
_LOCK = 0x64697374696C6C
#: Text of SQL that SQLite and Postgres both take, but for the type of bytes.
STEPS: tuple[tuple[str, ...], ...] = (
    (
        "CREATE TABLE head (id BIGINT PRIMARY KEY CHECK (id = 1), sequence BIGINT NOT NULL, digest TEXT NOT NULL, epoch BIGINT NOT NULL,"
        " clock TEXT NOT NULL, read_only TEXT, next_account BIGINT NOT NULL, next_reservation BIGINT NOT NULL)",
        f"INSERT INTO head VALUES (1, 0, '{GENESIS}', 0, '', NULL, 1, 1)",
        "CREATE TABLE writers (id BIGINT PRIMARY KEY, opened_at TEXT NOT NULL, seen_at TEXT NOT NULL)",
        # parent: room for budgets of teams within those of an organisation
        "CREATE TABLE accounts (id BIGINT PRIMARY KEY, budget TEXT NOT NULL, span TEXT NOT NULL, period TEXT NOT NULL, unit TEXT NOT NULL,"
        " bound BIGINT, settled BIGINT NOT NULL CHECK (settled >= 0), held BIGINT NOT NULL CHECK (held >= 0),"
        " reserved BIGINT NOT NULL CHECK (reserved >= 0), in_doubt BIGINT NOT NULL CHECK (in_doubt >= 0),"
        " overrun BIGINT NOT NULL CHECK (overrun >= 0), parent BIGINT REFERENCES accounts (id), UNIQUE (budget, period, span, unit))",
        "CREATE TABLE jobs (budget TEXT NOT NULL, uid TEXT NOT NULL, reservation BIGINT, requests BIGINT NOT NULL, hits BIGINT NOT NULL,"
        " tokens_in BIGINT NOT NULL, tokens_out BIGINT NOT NULL, settled BIGINT NOT NULL, held BIGINT NOT NULL CHECK (held >= 0),"
        " in_doubt BIGINT NOT NULL CHECK (in_doubt >= 0), overrun BIGINT NOT NULL, saved BIGINT NOT NULL, answers BIGINT NOT NULL,"
        " total BIGINT NOT NULL, squares DOUBLE PRECISION NOT NULL, PRIMARY KEY (uid, budget))",
        "CREATE TABLE reservations (id BIGINT PRIMARY KEY, budget TEXT NOT NULL, uid TEXT NOT NULL, accounts TEXT NOT NULL,"
        " opened_at TEXT NOT NULL, seen_at TEXT NOT NULL, closed_at TEXT, amount BIGINT NOT NULL CHECK (amount >= 0),"
        " tokens BIGINT NOT NULL CHECK (tokens >= 0), smallest BIGINT NOT NULL, smallest_tokens BIGINT NOT NULL,"
        " remaining BIGINT NOT NULL, estimate BIGINT NOT NULL, remaining_tokens BIGINT NOT NULL, estimate_tokens BIGINT NOT NULL)",
        "CREATE INDEX reservations_open ON reservations (seen_at) WHERE closed_at IS NULL",
        "CREATE TABLE holds (id TEXT PRIMARY KEY, reservation BIGINT NOT NULL, state TEXT NOT NULL, amount BIGINT NOT NULL,"
        " tokens BIGINT NOT NULL, teacher TEXT NOT NULL, request_key TEXT NOT NULL, terms TEXT NOT NULL, prices TEXT NOT NULL,"
        " writer BIGINT NOT NULL, at TEXT NOT NULL, billed BIGINT NOT NULL, tokens_in BIGINT NOT NULL, tokens_out BIGINT NOT NULL,"
        " resolved_at TEXT, why TEXT NOT NULL)",
        "CREATE INDEX holds_dispatched ON holds (writer) WHERE state = 'dispatched'",
        "CREATE TABLE answers (key TEXT PRIMARY KEY, hold TEXT NOT NULL, digest TEXT NOT NULL, finish TEXT NOT NULL, body {bytes},"
        " location TEXT, at TEXT NOT NULL)",
        "CREATE INDEX answers_here ON answers (at) WHERE location IS NULL",
        "CREATE TABLE entries (sequence BIGINT PRIMARY KEY, digest TEXT NOT NULL, body TEXT NOT NULL)",
    ),
    (
        "ALTER TABLE holds ADD COLUMN status BIGINT",
        "ALTER TABLE holds ADD COLUMN request_id TEXT",
        # entries before the first of format 2 do not tell everything that the tables hold
        "ALTER TABLE head ADD COLUMN format BIGINT NOT NULL DEFAULT 1",
        "CREATE INDEX holds_in_doubt ON holds (at) WHERE state = 'inDoubt'",
    ),
    # the newest gateway that this one has heard of: who is known to all divides the limits of teachers with them
    ("ALTER TABLE writers ADD COLUMN known BIGINT NOT NULL DEFAULT 0",),
)


def migrate(connection: Connection, at: datetime, last: int | None = None) -> None:
    """Bring the schema to the newest step (or to an older one, for a copy that was made then), in the caller's transaction."""
    postgres = connection.dialect.name == "postgresql"
    if postgres:
        connection.execute(text(f"SELECT pg_advisory_xact_lock({_LOCK})"))
    if not inspect(connection).has_table("schema_versions"):
        connection.execute(text("CREATE TABLE schema_versions (version BIGINT PRIMARY KEY, applied_at TEXT NOT NULL)"))
    done = connection.execute(text("SELECT coalesce(max(version), 0) FROM schema_versions")).scalar_one()
    if done > len(STEPS):
        raise LedgerError(f"the ledger's schema has version {done}, this program knows {len(STEPS)}: run the newer image that wrote it")
    for version, step in enumerate(STEPS[done:last], done + 1):
        for statement in step:
            connection.execute(text(statement.replace("{bytes}", "BYTEA" if postgres else "BLOB")))
        connection.execute(text("INSERT INTO schema_versions VALUES (:version, :at)"), {"version": version, "at": stamp(at)})

"""A ledger as one stream of JSON lines: the same for both databases, written and read without a file beside it and in little memory.

First a header, then each table's columns and its rows, at last the count and sha256 of all that stands before: a stream that was cut off is
told from a whole one. It is taken in one transaction that only reads, so the gateway goes on meanwhile.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from datetime import datetime
from itertools import chain
from typing import Any

from sqlalchemy import Connection, Table, column, func, insert, select, table, text, update

from . import reading, schema
from .contract import LedgerError
from .migrations import STEPS, migrate
from .rows import stamp

#: Rows that are fetched at once; of bodies of answers, which may be long, only a few.
_ROWS, _LONG_ROWS = 500, 16
#: Bytes that are passed on, or inserted, at once.
_BLOCK = 1 << 20


@dataclass(frozen=True, slots=True)
class Header:
    """Whose dump it is. `ledger` is the same for all copies of one ledger: it is of its first entry's digest."""

    schema: int
    ledger: str
    at: str
    entries: int
    head: str


def dump(connection: Connection, at: datetime) -> Iterator[bytes]:
    """The stream, in blocks."""
    if connection.dialect.name == "postgresql":
        # whoever reads the stream may be slow
        connection.execute(text("SET LOCAL statement_timeout = 0"))
        connection.execute(text("SET LOCAL idle_in_transaction_session_timeout = 0"))
    digest, block, count = hashlib.sha256(), bytearray(), 0
    for line in _lines(connection, at):
        block += line
        count += 1
        if len(block) >= _BLOCK:
            digest.update(block)
            yield bytes(block)
            block.clear()
    digest.update(block)
    yield bytes(block) + _encoded({"lines": count, "sha256": digest.hexdigest()})


def whole(blocks: Iterable[bytes]) -> tuple[Header, Iterator[bytes]]:
    """The header, and the same bytes again, of which the last come only if all are what was written. LedgerError."""
    coming = iter(blocks)
    start = b""
    for block in coming:
        start += block
        if b"\n" in start or len(start) > _BLOCK:
            break
    header = _header(start.partition(b"\n")[0])
    return header, _followed(chain((start,), coming))


def _followed(blocks: Iterable[bytes]) -> Iterator[bytes]:
    digest, count, last = hashlib.sha256(), 0, b""
    for block in blocks:
        seen = last + block
        cut = seen.rfind(b"\n", 0, len(seen) - 1) + 1
        digest.update(seen[:cut])
        count += seen.count(b"\n", 0, cut)
        last = seen[cut:]
        yield seen[:cut]
    if not last.startswith(b'{"lines":') or not last.endswith(b"}\n"):
        raise LedgerError(f"backup: it ends after {count} lines, before its last one: it was cut off; take another one")
    if last != _encoded({"lines": count, "sha256": digest.hexdigest()}):
        raise LedgerError("backup: it is not what was written, its digest differs; take another one")
    yield last


def load(connection: Connection, blocks: Iterable[bytes], at: datetime) -> Header:
    """Fill an empty ledger, at the schema that the dump was made by, and bring it to today's. It grants nothing until it is accepted."""
    header, checked = whole(blocks)
    if header.schema > len(STEPS):
        raise LedgerError(f"backup: made by schema {header.schema}, this program knows {len(STEPS)}: use the newer image that made it")
    migrate(connection, at, header.schema)
    if connection.execute(select(func.count()).select_from(schema.entries)).scalar_one():
        raise LedgerError("the database holds a ledger: restore into an empty one, an existing ledger is never overwritten")
    for name, columns, rows in _chunks(_records(checked)):
        into = table(name, *map(column, columns))
        if rows is None:
            connection.execute(into.delete())
        else:
            connection.execute(insert(into), [dict(zip(columns, row, strict=True)) for row in rows])
    migrate(connection, at)
    connection.execute(update(schema.head).values(read_only=_reason(header)))
    return header


def _lines(connection: Connection, at: datetime) -> Iterator[bytes]:
    head = reading.head(connection)
    first = connection.execute(select(schema.entries.c.digest).where(schema.entries.c.sequence == 1)).scalar()
    yield _encoded({"distillery": "ledger", **asdict(Header(len(STEPS), (first or "0" * 12)[:12], stamp(at), head.sequence, head.digest))})
    for each in schema.DUMPED:
        yield _encoded({"table": each.name, "columns": each.columns.keys()})
        for row in connection.execute(select(each).execution_options(yield_per=_fetched(each))):
            yield _encoded([_plain(value) for value in row])


def _fetched(each: Table) -> int:
    return _LONG_ROWS if each is schema.answers else _ROWS


def _encoded(record: object) -> bytes:
    return json.dumps(record, ensure_ascii=False, separators=(",", ":")).encode() + b"\n"


def _header(line: bytes) -> Header:
    try:
        record = json.loads(line)
    except ValueError:
        record = None
    if not isinstance(record, dict) or record.pop("distillery", None) != "ledger":
        raise LedgerError("backup: its first line is not the header of a ledger's backup; give what `ledger backup` wrote")
    known = Header.__dataclass_fields__
    if missing := known.keys() - record.keys():
        raise LedgerError(f"backup: its header lacks {', '.join(sorted(missing))}; give what `ledger backup` wrote")
    return Header(**{name: record[name] for name in known})


def _records(blocks: Iterable[bytes]) -> Iterator[Any]:
    """What stands between header and end."""
    rest, first = b"", True
    for block in blocks:
        *lines, rest = (rest + block).split(b"\n")
        for line in lines[first:]:
            record = json.loads(line)
            if not isinstance(record, dict) or "table" in record:
                yield record
        first = first and not lines


def _reason(header: Header) -> str:
    return (
        f"restored from the backup of {header.at[:19]}Z at entry {header.entries}: what was spent after it is missing;"
        " compare with the provider's bill, then run `distillery-gateway ledger accept`"
    )


def _plain(value: Any) -> Any:
    return {"base64": base64.b64encode(value).decode()} if isinstance(value, bytes) else value


def _restored(value: Any) -> Any:
    return base64.b64decode(value["base64"]) if isinstance(value, dict) else value


def _chunks(records: Iterable[Any]) -> Iterator[tuple[str, list[str], list[list[Any]] | None]]:
    """Table, columns, and None where the table begins, then its rows, as many as one statement takes."""
    name, size = "", 0
    columns: list[str] = []
    rows: list[list[Any]] = []
    for record in records:
        begins = isinstance(record, dict)
        if rows and (begins or len(rows) == _ROWS or size >= _BLOCK):
            yield name, columns, rows
            rows, size = [], 0
        if begins:
            name, columns = record["table"], record["columns"]
            yield name, columns, None
            continue
        rows.append([_restored(value) for value in record])
        size += sum(len(value) for value in rows[-1] if isinstance(value, (bytes, str)))
    if rows:
        yield name, columns, rows

"""Where copies of a ledger go to and come from: a file, the standard streams, another gateway, an object store.

A copy is marked read-only when it becomes a ledger: it knows of less than was spent since, so a person has to look before it grants.
"""

from __future__ import annotations

import fcntl
import os
import sys
import zlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from datetime import datetime
from functools import partial
from itertools import chain
from pathlib import Path
from typing import BinaryIO, Protocol

from sqlalchemy import Connection

from . import database
from .contract import LedgerError
from .dump import Header, load, whole

#: In the name of a file or object: it is compressed.
PACKED = ".gz"
_MAGIC, _GZIP, _LEVEL = b"\x1f\x8b", 31, 1
_BLOCK = 1 << 20


class Outside(Protocol):
    """What this package reaches through the program that it is in: an object store, and a gateway."""

    def write(self, uri: str, blocks: Iterator[bytes], header: Header) -> str:
        """Store a copy whole or not at all, in a folder (…/) under a name of its own; gives its URI. LedgerError if one is there."""

    def read(self, uri: str) -> Iterator[bytes]:
        """A copy; of a folder the newest. LedgerError."""

    def retain(self, folder: str, ledger: str, count: int) -> list[str]:
        """Delete all but the newest copies of a ledger that this program wrote there; gives their URIs. LedgerError."""

    def fetch(self, gateway: str, token_file: Path | None) -> Iterator[bytes]:
        """The dump that a gateway makes of its ledger. LedgerError."""


#: Made only where it is needed: a client of an object store is half a second and 30 MiB.
Reach = Callable[[], Outside]


@contextmanager
def snapshot(url: str) -> Iterator[Connection]:
    """A connection that sees one state of the ledger for as long as it reads."""
    engine = database.look_at(url)
    try:
        with engine.connect() as connection:
            yield connection if database.exclusive(engine) else connection.execution_options(isolation_level="REPEATABLE READ")
    finally:
        engine.dispose()


def backup(blocks: Iterable[bytes], target: str, outside: Reach | None) -> tuple[Header, str]:
    """Pass a dump on to `-`, a file or s3://…, and give where it lies then. One that is cut off comes to no file and no store."""
    header, checked = whole(blocks)
    if target.startswith("s3://"):
        return header, reached(outside).write(target, packed(checked), header)
    if target == "-":
        for block in checked:
            sys.stdout.buffer.write(block)
        sys.stdout.buffer.flush()
    else:
        _to_file(checked, Path(target))
    return header, target


def restore(source: str, url: str, at: datetime, outside: Reach | None) -> Header:
    """Make a ledger of a copy, read-only until it is accepted. The database must be empty: an existing ledger is never overwritten."""
    engine = database.connect(url)
    try:
        with _opened(source, outside) as blocks, engine.begin() as connection:
            return load(connection, unpacked(blocks), at)
    except (KeyError, TypeError, ValueError) as error:
        raise LedgerError(f"backup {source}: it is not what was written ({error!r}); take another one") from error
    finally:
        engine.dispose()


def packed(blocks: Iterable[bytes]) -> Iterator[bytes]:
    """Compressed, as gzip."""
    packing = zlib.compressobj(_LEVEL, wbits=_GZIP)
    for block in blocks:
        if part := packing.compress(block):
            yield part
    yield packing.flush()


def unpacked(blocks: Iterator[bytes]) -> Iterator[bytes]:
    """The same, or what was compressed. Where it was cut off it ends early."""
    first = next(blocks, b"")
    if not first.startswith(_MAGIC):
        yield first
        yield from blocks
        return
    unpacking = zlib.decompressobj(wbits=_GZIP)
    try:
        for block in chain((first,), blocks):
            yield unpacking.decompress(block)
    except zlib.error as error:
        raise LedgerError(f"backup: it is damaged ({error}); take another one") from error


def _to_file(blocks: Iterator[bytes], target: Path) -> None:
    """Whole or not at all, and for its owner alone; of two that write to one name at the same time the second is refused."""
    unfinished = target.with_name(f"{target.name}.partial")
    with os.fdopen(os.open(unfinished, os.O_CREAT | os.O_WRONLY, database.PRIVATE), "wb") as written:
        try:
            # ends with its process, whatever kills that
            fcntl.flock(written, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise LedgerError(f"backup {target}: another one is being written there; name another file, or wait for it") from None
        if target.exists() or not _is(written, unfinished):
            if _is(written, unfinished):
                unfinished.unlink()
            raise LedgerError(f"backup {target}: the file exists; name another one")
        written.truncate()
        os.fchmod(written.fileno(), database.PRIVATE)
        for block in packed(blocks) if target.suffix == PACKED else blocks:
            written.write(block)
        written.flush()
        os.fsync(written.fileno())
        unfinished.rename(target)


def _is(opened: BinaryIO, path: Path) -> bool:
    """Whether the name still stands for what was opened by it: whoever had the lock before may have renamed it."""
    return path.exists() and os.path.samestat(os.fstat(opened.fileno()), path.stat())


@contextmanager
def _opened(source: str, outside: Reach | None) -> Iterator[Iterator[bytes]]:
    if source.startswith("s3://"):
        yield reached(outside).read(source)
    elif source == "-":
        yield _blocks(sys.stdin.buffer)
    else:
        with Path(source).open("rb") as opened:
            yield _blocks(opened)


def _blocks(opened: BinaryIO) -> Iterator[bytes]:
    return iter(partial(opened.read, _BLOCK), b"")


def reached(outside: Reach | None) -> Outside:
    """It, or a LedgerError."""
    if outside is None:
        raise LedgerError("an object store or a gateway is reached by `distillery-gateway ledger` alone; give a file or -")
    return outside()

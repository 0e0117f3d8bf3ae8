"""What the commands of `distillery-gateway ledger` have in common: which ledger, a look at it, a decision in it, and an answer in JSON."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from decimal import Decimal, InvalidOperation
from pathlib import Path

from sqlalchemy import Connection, Engine

from distillery.api.money import NANO

from . import database
from .committing import Committer
from .contract import LedgerError
from .operation import Operation


def command(parser: argparse.ArgumentParser, does: Callable[[argparse.Namespace], int]) -> argparse.ArgumentParser:
    """A command about one ledger."""
    database_flag(parser, required=True)
    parser.set_defaults(command=does)
    return parser


def database_flag(parser: argparse._ActionsContainer, required: bool) -> None:
    """Beside the gateway, whose pod says which it is, the flag may be left out."""
    known = os.environ.get("DISTILLERY_LEDGER")
    if known is None and (file := os.environ.get("DISTILLERY_LEDGER_FILE")):
        known = Path(file).read_text().strip()
    told = "sqlite:////path/to/file or postgresql://…; in the gateway's pod it is known"
    parser.add_argument("--database", required=required and known is None, default=known, metavar="URL", help=told)


@contextmanager
def looking(url: str) -> Iterator[Connection]:
    """One state of the ledger, whatever is written meanwhile; a transaction of SQLite sees one anyway."""
    with _engine(url, reading=True) as engine, engine.connect() as connection:
        if database.exclusive(engine):
            yield connection
        else:
            yield connection.execution_options(isolation_level="REPEATABLE READ")


def decide(url: str, operations: Sequence[Operation]) -> list[object]:
    """Do all of them in one transaction, beside a gateway that goes on; what each returned. LedgerError for the first that was refused."""
    with _engine(url) as engine:
        outcomes = Committer(engine, 0).commit(operations)
    for outcome in outcomes:
        if isinstance(outcome, LedgerError):
            raise outcome
    return outcomes


@contextmanager
def _engine(url: str, *, reading: bool = False) -> Iterator[Engine]:
    engine = database.look_at(url) if reading else database.connect(url)
    try:
        yield engine
    finally:
        engine.dispose()


def nano(dollars: str, wrong: str) -> int:
    """Dollars in nano-dollars. LedgerError with `wrong` where it is no amount."""
    try:
        found = Decimal(dollars) * NANO
        if found == int(found) >= 0:
            return int(found)
    except (InvalidOperation, ValueError, OverflowError):
        pass
    raise LedgerError(wrong)


def say(**facts: object) -> None:
    """One line of JSON."""
    sys.stdout.write(json.dumps(facts, ensure_ascii=False) + "\n")

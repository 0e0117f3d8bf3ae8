"""`distillery-gateway ledger …`: what a person does to the ledger beside the gateway. Safe while it runs: every command takes its turn."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from decimal import Decimal, InvalidOperation
from pathlib import Path

from sqlalchemy import Connection, Engine
from sqlalchemy.exc import DBAPIError

from distillery.api.money import NANO

from . import database, reading, verify
from .backup import Reach, backup, reached, restore, snapshot
from .committing import Committer, Outage
from .contract import LedgerError
from .decisions import Accept, Acknowledge, Adjust, SetClock
from .dump import dump
from .operation import Operation
from .windows import accounts_of


def main(arguments: list[str], outside: Reach | None = None) -> int:
    """Run one command; the exit status. `outside` reaches what is no database and no file."""
    given = _parser().parse_args(arguments)
    given.outside = outside
    command: Callable[[argparse.Namespace], int] = given.command
    try:
        return command(given)
    except (LedgerError, DBAPIError, Outage, OSError, ValueError) as error:
        sys.stderr.write(f"distillery-gateway ledger: {error}\n")
        return 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="distillery-gateway ledger", description="Looks after the ledger of teacher budgets.")
    commands = parser.add_subparsers(required=True)
    export = _command(commands.add_parser("export", help="write the chain of entries as JSON lines"), _export)
    export.add_argument("--after", type=int, default=0, metavar="SEQUENCE", help="only entries after this one")
    export.add_argument("--to", type=Path, help="file; standard output if absent")
    check = commands.add_parser("verify", help="check chain, rules and balances of a ledger or an export")
    check.set_defaults(command=_verify)
    check.add_argument("--database", help="URL of the ledger")
    check.add_argument("--export", type=Path, help="file of `export`, from the first entry on")
    told = "where the chain stood before, as `status.ledger` of a TeacherBudget told it: finds what was cut off or written anew"
    check.add_argument("--head", action="append", default=[], metavar="SEQUENCE:DIGEST", help=told)
    copy = commands.add_parser("backup", help="write a consistent copy, while the gateway goes on")
    copy.set_defaults(command=_backup)
    source = copy.add_mutually_exclusive_group()
    _database(source, required=False)
    source.add_argument("--gateway", metavar="URL", help="take the copy from this gateway, as its backup account")
    copy.add_argument("--token-file", type=Path, help="that account's token, for --gateway")
    copy.add_argument("--to", required=True, help="- (standard output), a file (compressed if it ends in .gz), s3://bucket/key, s3://…/")
    copy.add_argument("--keep", type=int, metavar="COUNT", help="in s3://…/: delete older copies of this ledger beyond so many")
    back = _command(commands.add_parser("restore", help="make a ledger of a copy; it grants nothing until accepted"), _restore)
    back.add_argument("--from", dest="source", required=True, help="what `backup` wrote: -, a file, s3://bucket/key, s3://…/ (the newest)")
    accept = _command(commands.add_parser("accept", help="let a restored ledger grant again; book what it does not know of"), _accept)
    accept.add_argument("--why", required=True, help="goes into the chain")
    accept.add_argument("--spent", action="append", default=[], metavar="NAMESPACE/BUDGET=DOLLARS[,TOKENS]", help="book as paid today")
    accept.add_argument("--overrun", action="append", default=[], metavar="NAMESPACE/BUDGET", help="count its overruns as paid")
    accept.add_argument("--clock", action="store_true", help="the clock once ran ahead: book in today's windows again")
    return parser


def _command(parser: argparse.ArgumentParser, command: Callable[[argparse.Namespace], int]) -> argparse.ArgumentParser:
    _database(parser, required=True)
    parser.set_defaults(command=command)
    return parser


def _database(parser: argparse._ActionsContainer, required: bool) -> None:
    """Beside the gateway, whose pod says which it is, the flag may be left out."""
    known = os.environ.get("DISTILLERY_LEDGER")
    if known is None and (file := os.environ.get("DISTILLERY_LEDGER_FILE")):
        known = Path(file).read_text().strip()
    told = "sqlite:////path/to/file or postgresql://…; in the gateway's pod it is known"
    parser.add_argument("--database", required=required and known is None, default=known, metavar="URL", help=told)


def _export(given: argparse.Namespace) -> int:
    with _reading(given.database) as connection:
        target = given.to.open("w", encoding="utf-8") if given.to else sys.stdout
        try:
            for entry in reading.entries(connection, given.after):
                target.write(entry.line() + "\n")
        finally:
            if given.to:
                target.close()
    return 0


def _verify(given: argparse.Namespace) -> int:
    if (given.database is None) == (given.export is None):
        raise LedgerError("verify: give either --database or --export")
    heads = [verify.head_of(text) for text in given.head]
    if given.export is not None:
        with given.export.open(encoding="utf-8") as lines:
            replay = verify.exported(lines, heads)
    else:
        with _reading(given.database) as connection:
            replay = verify.stored(connection, heads)
    for fault in replay.faults:
        sys.stderr.write(fault + "\n")
    _say(entries=replay.sequence, head=replay.digest, accounts=len(replay.accounts), openHolds=len(replay.holds), faults=len(replay.faults))
    return 1 if replay.faults else 0


@contextmanager
def _reading(url: str) -> Iterator[Connection]:
    """One state of the ledger, whatever is written meanwhile; a transaction of SQLite sees one anyway."""
    with _engine(url, reading=True) as engine, engine.connect() as connection:
        if database.exclusive(engine):
            yield connection
        else:
            yield connection.execution_options(isolation_level="REPEATABLE READ")


@contextmanager
def _engine(url: str, *, reading: bool = False) -> Iterator[Engine]:
    engine = database.connect(url, reading=reading)
    try:
        yield engine
    finally:
        engine.dispose()


def _backup(given: argparse.Namespace) -> int:
    if given.gateway is None and given.database is None:
        raise LedgerError("backup: give --database or --gateway")
    if given.keep is not None and not (given.keep > 0 and given.to.startswith("s3://") and given.to.endswith("/")):
        raise LedgerError(f"backup --keep {given.keep}: give a number from 1, and a folder of an object store (s3://…/) as --to")
    os.nice(10)  # the gateway, in whose pod this may run, goes first
    if given.gateway is not None:
        header, place = backup(reached(given.outside).fetch(given.gateway, given.token_file), given.to, given.outside)
    else:
        with snapshot(given.database) as connection:
            header, place = backup(dump(connection, datetime.now(UTC)), given.to, given.outside)
    deleted = reached(given.outside).retain(given.to, header.ledger, given.keep) if given.keep else []
    told = {"backup": place, "ledger": header.ledger, "entries": header.entries, "head": header.head, "deleted": deleted}
    (sys.stderr if given.to == "-" else sys.stdout).write(json.dumps(told) + "\n")
    return 0


def _restore(given: argparse.Namespace) -> int:
    header = restore(given.source, given.database, datetime.now(UTC), given.outside)
    _say(restored=given.source, entries=header.entries, head=header.head, readOnly=True)
    return 0


def _accept(given: argparse.Namespace) -> int:
    at = datetime.now(UTC)
    operations: list[Operation] = [Accept(at, given.why)]
    if given.clock:
        operations.append(SetClock(at, given.why))
    operations += [_adjustment(spent, at, given.why) for spent in given.spent]
    operations += [Acknowledge(budget, at, given.why) for budget in given.overrun]
    with _engine(given.database) as engine:
        outcomes = Committer(engine, 0).commit(operations)
    for outcome in outcomes:
        if isinstance(outcome, LedgerError):
            raise outcome
    _say(accepted=True, adjustments=len(given.spent), acknowledged=len(given.overrun))
    return 0


def _adjustment(spent: str, at: datetime, why: str) -> Adjust:
    budget, _, amounts = spent.partition("=")
    dollars, _, tokens = amounts.partition(",")
    try:
        nano, count = Decimal(dollars) * NANO, int(tokens or 0)
    except (InvalidOperation, ValueError) as error:
        raise LedgerError(f"--spent {spent}: give NAMESPACE/BUDGET=DOLLARS or NAMESPACE/BUDGET=DOLLARS,TOKENS") from error
    if budget.count("/") != 1 or nano != int(nano) or nano < 0 or count < 0:
        raise LedgerError(f"--spent {spent}: give NAMESPACE/BUDGET=DOLLARS with at most 9 digits after the point, not below 0")
    accounts = tuple(account for account in accounts_of(budget, "", {}, {}, at) if account.window != "perJob")
    return Adjust(accounts, int(nano), count, at, why)


def _say(**facts: object) -> None:
    sys.stdout.write(json.dumps(facts) + "\n")

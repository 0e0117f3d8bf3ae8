"""`distillery-gateway ledger …`: what a person does to the ledger beside the gateway. Safe while it runs: every command takes its turn."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

from sqlalchemy.exc import DBAPIError

from . import doubts, reading, verify
from .backup import Reach, backup, reached, restore, snapshot
from .committing import Outage
from .console import command, database_flag, decide, looking, nano, say
from .contract import LedgerError
from .decisions import Accept, Acknowledge, Adjust, SetClock
from .dump import dump
from .operation import Operation
from .windows import accounts_of


def main(arguments: list[str], outside: Reach | None = None) -> int:
    """Run one command; the exit status. `outside` reaches what is no database and no file."""
    given = _parser().parse_args(arguments)
    given.outside = outside
    does: Callable[[argparse.Namespace], int] = given.command
    try:
        return does(given)
    except (LedgerError, DBAPIError, Outage, OSError, ValueError) as error:
        sys.stderr.write(f"distillery-gateway ledger: {error}\n")
        return 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="distillery-gateway ledger", description="Looks after the ledger of teacher budgets.")
    commands = parser.add_subparsers(required=True)
    export = command(commands.add_parser("export", help="write the chain of entries as JSON lines"), _export)
    export.add_argument("--after", type=int, default=0, metavar="SEQUENCE", help="only entries after this one")
    export.add_argument("--to", type=Path, help="file; standard output if absent")
    check = commands.add_parser("verify", help="check chain, rules and balances of a ledger or an export")
    check.set_defaults(command=_verify)
    one = check.add_mutually_exclusive_group()
    database_flag(one, required=False)
    one.add_argument("--export", type=Path, help="file of `export`, from the first entry on")
    told = "where the chain stood before, as `status.ledger` of a TeacherBudget told it: finds what was cut off or written anew"
    check.add_argument("--head", action="append", default=[], metavar="SEQUENCE:DIGEST", help=told)
    copy = commands.add_parser("backup", help="write a consistent copy, while the gateway goes on")
    copy.set_defaults(command=_backup)
    source = copy.add_mutually_exclusive_group()
    database_flag(source, required=False)
    source.add_argument("--gateway", metavar="URL", help="take the copy from this gateway, as its backup account")
    copy.add_argument("--token-file", type=Path, help="that account's token, for --gateway")
    copy.add_argument("--to", required=True, help="- (standard output), a file (compressed if it ends in .gz), s3://bucket/key, s3://…/")
    copy.add_argument("--keep", type=int, metavar="COUNT", help="in s3://…/: delete older copies of this ledger beyond so many")
    back = command(commands.add_parser("restore", help="make a ledger of a copy; it grants nothing until accepted"), _restore)
    back.add_argument("--from", dest="source", required=True, help="what `backup` wrote: -, a file, s3://bucket/key, s3://…/ (the newest)")
    accept = command(commands.add_parser("accept", help="let a restored ledger grant again; book what it does not know of"), _accept)
    accept.add_argument("--why", required=True, help="goes into the chain")
    accept.add_argument("--spent", action="append", default=[], metavar="NAMESPACE/BUDGET=DOLLARS[,TOKENS]", help="book as paid today")
    accept.add_argument("--overrun", action="append", default=[], metavar="NAMESPACE/BUDGET", help="count its overruns as paid")
    accept.add_argument("--clock", action="store_true", help="the clock once ran ahead: book in today's windows again")
    doubts.add_commands(commands)
    return parser


def _export(given: argparse.Namespace) -> int:
    with looking(given.database) as connection:
        target = given.to.open("w", encoding="utf-8") if given.to else sys.stdout
        try:
            for entry in reading.entries(connection, given.after):
                target.write(entry.line() + "\n")
        finally:
            if given.to:
                target.close()
    return 0


def _verify(given: argparse.Namespace) -> int:
    if given.database is None and given.export is None:
        raise LedgerError("verify: give --database or --export")
    heads = [verify.head_of(text) for text in given.head]
    if given.export is not None:
        with given.export.open(encoding="utf-8") as lines:
            replay = verify.exported(lines, heads)
    else:
        with looking(given.database) as connection:
            replay = verify.stored(connection, heads)
    for fault in replay.faults:
        sys.stderr.write(fault + "\n")
    say(entries=replay.sequence, head=replay.digest, accounts=len(replay.accounts), openHolds=len(replay.holds), faults=len(replay.faults))
    return 1 if replay.faults else 0


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
    say(restored=given.source, entries=header.entries, head=header.head, readOnly=True)
    return 0


def _accept(given: argparse.Namespace) -> int:
    at = datetime.now(UTC)
    operations: list[Operation] = [Accept(at, given.why)]
    if given.clock:
        operations.append(SetClock(at, given.why))
    operations += [_adjustment(spent, at, given.why) for spent in given.spent]
    operations += [Acknowledge(budget, at, given.why) for budget in given.overrun]
    decide(given.database, operations)
    say(accepted=True, adjustments=len(given.spent), acknowledged=len(given.overrun))
    return 0


def _adjustment(spent: str, at: datetime, why: str) -> Adjust:
    budget, _, amounts = spent.partition("=")
    dollars, _, tokens = amounts.partition(",")
    wrong = f"--spent {spent}: give NAMESPACE/BUDGET=DOLLARS[,TOKENS], dollars with at most 9 digits after the point, none below 0"
    if budget.count("/") != 1 or not (tokens or "0").isdecimal():
        raise LedgerError(wrong)
    accounts = tuple(account for account in accounts_of(budget, "", {}, {}, at) if account.window != "perJob")
    return Adjust(accounts, nano(dollars, wrong), int(tokens or 0), at, why)

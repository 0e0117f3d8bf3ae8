"""Whether a ledger, or an export of it, is whole: its chain, its rules and its balances."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from typing import Any

from sqlalchemy import Connection, func, select

from . import reading, schema
from .chain import Entry, parsed
from .replay import Replay, replayed


def exported(lines: Iterable[str]) -> Replay:
    """Check the lines of an export from the first entry on."""

    def entries() -> Iterator[tuple[Entry, dict[str, Any]]]:
        for line in lines:
            digest, facts, body = parsed(line)
            yield Entry(int(str(facts.get("sequence", 0))), digest, body), facts

    return replayed(entries())


def stored(connection: Connection) -> Replay:
    """Check a ledger's entries, and that its tables say what the entries say. Reads all in the caller's transaction."""
    replay = replayed((entry, json.loads(entry.body)) for entry in reading.entries(connection, 0))
    head = reading.head(connection)
    if (head.sequence, head.digest) != (replay.sequence, replay.digest):
        replay.faults.append(f"the head says entry {head.sequence}, the chain ends with {replay.sequence}")
    _compare_accounts(connection, replay)
    _compare_holds(connection, replay)
    _compare_jobs(connection, replay)
    return replay


def _compare_accounts(connection: Connection, replay: Replay) -> None:
    rows = {row.id: row for row in connection.execute(select(schema.accounts))}
    for number in rows.keys() ^ replay.accounts.keys():
        replay.faults.append(f"account {number} is only in {'the table' if number in rows else 'the chain'}")
    for number in rows.keys() & replay.accounts.keys():
        row, told = rows[number], replay.accounts[number]
        if told.amounts != {bucket: getattr(row, bucket) for bucket in told.amounts} or told.limit != row.bound:
            replay.faults.append(f"account {number} ({row.budget} {row.span} {row.period} {row.unit}) differs from its entries")


def _compare_holds(connection: Connection, replay: Replay) -> None:
    states = {"dispatched": "held", "inDoubt": "in_doubt"}
    rows = connection.execute(select(schema.holds).where(schema.holds.c.state.in_(states)))
    found = {row.id: (states[row.state], row.amount, row.tokens) for row in rows}
    for number in found.keys() | replay.holds.keys():
        if found.get(number) != replay.holds.get(number):
            replay.faults.append(f"hold {number} differs from its entries")


def _compare_jobs(connection: Connection, replay: Replay) -> None:
    """What the jobs of a budget hold is what its total account holds."""
    jobs, accounts, reservations = schema.jobs.c, schema.accounts.c, schema.reservations.c
    of_jobs = select(jobs.budget, func.sum(jobs.held), func.sum(jobs.in_doubt)).group_by(jobs.budget)
    of_totals = select(accounts.budget, accounts.held, accounts.in_doubt, accounts.reserved).where(
        accounts.span == "total", accounts.unit == "USD"
    )
    unspent = (
        select(reservations.budget, func.sum(reservations.amount)).where(reservations.closed_at.is_(None)).group_by(reservations.budget)
    )
    totals = {row[0]: tuple(map(int, row[1:])) for row in connection.execute(of_totals)}
    held = {row[0]: tuple(map(int, row[1:])) for row in connection.execute(of_jobs)}
    reserved = {row[0]: int(row[1]) for row in connection.execute(unspent)}
    for budget, (in_hold, in_doubt, set_aside) in totals.items():
        if held.get(budget, (0, 0)) != (in_hold, in_doubt) or reserved.get(budget, 0) != set_aside:
            replay.faults.append(f"budget {budget}: its jobs hold another amount than its accounts")

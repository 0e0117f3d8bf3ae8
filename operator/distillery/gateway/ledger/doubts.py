"""`ledger doubts`, `resolve` and `forget`: what only a person can know, who has looked at the provider's usage page or at an answer."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import Connection, select

from distillery.api.money import usd

from . import schema
from .console import command, decide, looking, nano, say
from .contract import LedgerError
from .decisions import Resolve
from .upkeep import Forget

_holds, _owners = schema.holds.c, schema.reservations.c
_DOUBTS = (
    select(schema.holds, _owners.budget, _owners.uid)
    .join(schema.reservations, _owners.id == _holds.reservation)
    .where(_holds.state == "inDoubt")
    .order_by(_holds.at, _holds.id)
)


def add_commands(commands: Any) -> None:
    """To those of `ledger`."""
    shown = command(commands.add_parser("doubts", help="list the requests that nobody knows the outcome of, the oldest first"), _doubts)
    shown.add_argument("--budget", metavar="NAMESPACE/BUDGET", help="only of this one")
    resolve = command(commands.add_parser("resolve", help="end doubts by what the provider's usage page says"), _resolve)
    resolve.add_argument("--hold", action="append", required=True, metavar="ID", help="which, as `doubts` lists it; may be given again")
    verdict = resolve.add_mutually_exclusive_group(required=True)
    verdict.add_argument("--billed", metavar="DOLLARS", help="the provider billed it, this much each")
    verdict.add_argument("--not-billed", action="store_true", help="the provider did not bill it: the money is free again")
    whole = "with --billed: as billed; without it as many as were held count"
    resolve.add_argument("--tokens", metavar="IN,OUT", help=whole)
    resolve.add_argument("--why", required=True, help="how you know; goes into the chain")
    forget = command(commands.add_parser("forget", help="drop a kept answer, so that who asks next buys it again"), _forget)
    forget.add_argument("key", help="of the answer: `X-Distillery-Answer` of the reply, `key` in a piece of traces, `request` in `export`")
    forget.add_argument("--why", required=True, help="goes into the chain")


def listed(connection: Connection, now: datetime, budget: str | None = None) -> Iterator[dict[str, object]]:
    """Every doubt as a person needs it to find the request at the provider."""
    for row in connection.execute(_DOUBTS if budget is None else _DOUBTS.where(_owners.budget == budget)):
        sent = datetime.fromisoformat(row.at)
        yield {
            "hold": row.id, "budget": row.budget, "job": row.uid, "teacher": row.teacher, "sent": f"{row.at[:19]}Z",
            "age": _age(now - sent), "amount": usd(row.amount), "tokens": row.tokens,
            "why": row.why, "status": row.status, "requestId": row.request_id,
        }  # fmt: skip


def _age(span: timedelta) -> str:
    hours, rest = divmod(max(0, int(span.total_seconds())), 3600)
    return f"{hours // 24}d{hours % 24}h" if hours >= 24 else f"{hours}h{rest // 60}m"


def _doubts(given: argparse.Namespace) -> int:
    with looking(given.database) as connection:
        for doubt in listed(connection, datetime.now(UTC), given.budget):
            say(**doubt)
    return 0


def _resolve(given: argparse.Namespace) -> int:
    at, tokens = datetime.now(UTC), None
    amount = (
        None if given.not_billed else nano(given.billed, f"--billed {given.billed}: give dollars with at most 9 digits after the point")
    )
    if given.tokens is not None:
        if given.not_billed:
            raise LedgerError("--tokens: only what was billed has tokens; leave it out with --not-billed")
        tokens = _tokens(given.tokens)
    holds = list(dict.fromkeys(given.hold))
    outcomes = decide(given.database, [Resolve(hold, amount, tokens, at, given.why) for hold in holds])
    say(resolved=outcomes.count(True), before=outcomes.count(False))
    return 0


def _tokens(text: str) -> tuple[int, int]:
    parts = text.split(",")
    if len(parts) != 2 or not all(part.isascii() and part.isdigit() for part in parts):
        raise LedgerError(f"--tokens {text}: give IN,OUT, two whole numbers")
    return int(parts[0]), int(parts[1])


def _forget(given: argparse.Namespace) -> int:
    [forgotten] = decide(given.database, [Forget(given.key, datetime.now(UTC), given.why)])
    say(forgotten=forgotten)
    return 0

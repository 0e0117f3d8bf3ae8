"""Whoever writes into the database is found out by `ledger verify`: tables and chain have to tell the same."""

import json
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import insert, select
from tests.contract.ledger.test_audit import sql
from tests.unit.ledger.wallet import NOON, Wallet, answer

from distillery.gateway.ledger import Ledger, Need, Why, database, schema
from distillery.gateway.ledger.chain import GENESIS, link
from distillery.gateway.ledger.commands import main

TABLES = (schema.head, schema.writers, schema.accounts, schema.jobs, schema.reservations, schema.holds, schema.answers, schema.entries)
WALLET = Wallet(usd={"total": 1000, "daily": 500})


async def buy(ledger: Ledger, number: int, body: bytes = b"an answer", finish: str = "stop") -> None:
    """A request with its answer, under a key of its own."""
    hold = WALLET.hold(10, 5, number=f"{number:031x}f")
    await ledger.hold(hold)
    await ledger.settle(hold.id, 4, 2, 1, NOON, answer(f"answer-{number}", body, finish), request_id=f"req-{number}")


async def lived_in(ledger: Ledger) -> None:
    """A ledger with a bit of everything: holds 1 and 2 bought, 3 beyond its hold, 4 released, 5, 6 and 8 in doubt, 7 under way."""
    await ledger.reserve(WALLET.job(), WALLET.accounts(), Need(10, 5, 200, 200), NOON)
    await buy(ledger, 1)
    await buy(ledger, 2, finish="truncated")
    holds = [WALLET.hold(10, 5, number=f"{number:031x}f") for number in (3, 4, 5, 6, 7)]
    for hold in holds:
        await ledger.hold(hold)
    await ledger.settle(holds[0].id, 14, 1, 1, NOON, None)
    await ledger.release(holds[1].id, NOON, Why.BUSY, status=429)
    await ledger.doubt(holds[2].id, NOON, Why.FAILED, status=502, request_id="req-5")
    await ledger.doubt(holds[3].id, NOON, Why.TIMEOUT)
    await ledger.mark_hit(WALLET.job(), 4, NOON)
    other = Wallet(usd={"total": 70}, budget="team-b/main").hold(7, number=f"{8:031x}f")
    await ledger.hold(other)
    await ledger.doubt(other.id, NOON, Why.TIMEOUT)


def verified(url: str, capsys: pytest.CaptureFixture[str], *heads: str) -> str:
    """What `ledger verify` finds wrong; the exit status says so too."""
    capsys.readouterr()
    status = main(["verify", "--database", url, *(word for head in heads for word in ("--head", head))])
    found = capsys.readouterr()
    assert status == (1 if found.err else 0)
    assert json.loads(found.out)["faults"] == len(found.err.splitlines())
    return found.err


ONE, TWO, FOUR, FIVE, EIGHT = (f"id = '{number:031x}f'" for number in (1, 2, 4, 5, 8))


@pytest.mark.parametrize(
    ("tampering", "fault"),
    [
        # answers
        ("UPDATE answers SET body = (SELECT body FROM answers WHERE key = 'other') WHERE key = 'answer-1'", "answer answer-1 is damaged"),
        ("UPDATE answers SET (body, digest) = (SELECT body, digest FROM answers WHERE key = 'other') WHERE key = 'answer-1'", "in digest"),
        ("DELETE FROM answers WHERE key = 'answer-1'", "answer answer-1, which hold 0000000000000000000000000000001f bought, is gone"),
        ("UPDATE answers SET finish = 'stop' WHERE finish = 'truncated'", "answer answer-2 differs from its entries in finish"),
        ("UPDATE answers SET key = 'answer-9' WHERE key = 'answer-1'", "answer answer-9 is in the table as no entry tells it"),
        (f"UPDATE answers SET hold = '{9:031x}f' WHERE key = 'answer-1'", "is gone or another one is in its place"),
        ("UPDATE answers SET location = NULL, body = NULL WHERE key = 'answer-1'", "answer answer-1 is damaged"),
        # holds
        (f"UPDATE holds SET billed = 0 WHERE {ONE}", "differs from its entries in billed"),
        (f"UPDATE holds SET tokens_in = 0 WHERE {ONE}", "differs from its entries in tokens_in"),
        (f"DELETE FROM holds WHERE {FOUR}", "hold 0000000000000000000000000000004f is gone from the table"),
        (f"DELETE FROM holds WHERE {FIVE}", "hold 0000000000000000000000000000005f is gone from the table"),
        ("UPDATE holds SET state = 'settled' WHERE state = 'inDoubt'", "differs from its entries in state"),
        (f"UPDATE holds SET state = 'released' WHERE {ONE}", "differs from its entries in state"),
        (f"UPDATE holds SET teacher = 'dearer' WHERE {TWO}", "differs from its entries in teacher"),
        (f"UPDATE holds SET terms = '', prices = '' WHERE {TWO}", "differs from its entries in terms, prices"),
        (f"UPDATE holds SET why = 'teacher-busy', status = 503 WHERE {FIVE}", "differs from its entries in why, status"),
        (f"UPDATE holds SET request_id = NULL WHERE {ONE}", "differs from its entries in request_id"),
        (f"UPDATE holds SET at = '2026-10-24' WHERE {ONE}", "differs from its entries in at"),
        (f"UPDATE holds SET reservation = (SELECT reservation FROM holds WHERE {EIGHT}) WHERE {ONE}", "in reservation"),
        (
            "INSERT INTO holds SELECT 'x', reservation, state, amount, tokens, teacher, request_key, terms, prices, writer, at, billed,"
            f" tokens_in, tokens_out, resolved_at, why, status, request_id FROM holds WHERE {FOUR}",
            "the table has 10 holds, the entries tell of 9",
        ),
        # jobs, accounts, the head
        (
            "UPDATE jobs SET requests = 0, hits = 0, tokens_in = 0, tokens_out = 0, settled = 0, held = 0, in_doubt = 0, overrun = 0,"
            " saved = 0, answers = 0, total = 0, squares = 0",
            "differs from its entries in requests, tokens_in, tokens_out, settled, held, in_doubt, overrun, answers, total, squares, hits",
        ),
        ("UPDATE jobs SET hits = hits + 1", "differs from its entries in hits"),
        ("DELETE FROM jobs WHERE budget = 'team-b/main'", "job job-1 of budget team-b/main is gone"),
        ("UPDATE reservations SET amount = amount + 1 WHERE closed_at IS NULL", "has another amount set aside"),
        ("UPDATE accounts SET settled = settled - 1 WHERE settled > 0 AND unit = 'USD'", "differs from its entries"),
        ("UPDATE accounts SET bound = 7 WHERE span = 'total' AND unit = 'USD'", "differs from its entries"),
        ("UPDATE accounts SET budget = 'team-c/main' WHERE budget = 'team-b/main'", "differs from its entries"),
        ("UPDATE accounts SET period = '2026-11-23' WHERE span = 'daily'", "differs from its entries"),
        ("UPDATE head SET clock = '2026-11-25'", "the clock stands at 2026-11-25, by the entries at 2026-11-24"),
        ("UPDATE head SET next_account = 1", "the next account is to be number 1"),
        ("UPDATE head SET format = 1", "the head says format 1"),
        # the chain
        ("UPDATE entries SET body = replace(body, '\"billed\":4', '\"billed\":3')", "was changed"),
        ("UPDATE entries SET body = 'no JSON' WHERE sequence = 12", "entry 12 was changed"),
        ("DELETE FROM entries WHERE sequence = (SELECT max(sequence) FROM entries)", "the head says"),
        ("DELETE FROM entries WHERE sequence = 12", "follows entry 11"),
    ],
    ids=lambda text: text[:50],
)
async def test_a_row_that_was_written_by_another_hand_is_found(
    url: str, ledger: Ledger, tampering: str, fault: str, capsys: pytest.CaptureFixture[str]
) -> None:
    await lived_in(ledger)
    hold = WALLET.hold(1, number=f"{9:031x}f")
    await ledger.hold(hold)
    await ledger.settle(hold.id, 1, 0, 0, NOON, answer("other", b"quite another answer"))
    assert verified(url, capsys) == ""
    sql(url, tampering)
    assert fault in verified(url, capsys)


def tables(url: str) -> dict[str, list[dict[str, Any]]]:
    """All rows."""
    engine = database.connect(url, reading=True)
    with engine.connect() as connection:
        rows = {table.name: [dict(row._mapping) for row in connection.execute(select(table))] for table in TABLES}
    engine.dispose()
    return rows


def put(url: str, rows: dict[str, list[dict[str, Any]]]) -> None:
    """These rows in place of all others."""
    engine = database.connect(url)
    with engine.begin() as connection:
        for table in reversed(TABLES):
            connection.execute(table.delete())
        for table in TABLES:
            if rows[table.name]:
                connection.execute(insert(table), rows[table.name])
    engine.dispose()


async def test_a_purchase_that_was_cut_off_is_found_by_the_head_that_was_told(
    url: str, ledger: Ledger, capsys: pytest.CaptureFixture[str]
) -> None:
    await lived_in(ledger)
    before, earlier = tables(url), await ledger.head()
    await buy(ledger, 10)
    told = await ledger.head()
    head = f"{told.sequence}:{told.digest}"
    assert verified(url, capsys, head) == ""
    put(url, before)
    assert verified(url, capsys) == "", "a ledger of yesterday is whole in itself"
    assert verified(url, capsys, f"{earlier.sequence}:{earlier.digest}") == ""
    assert f"the chain was cut off: it ends with entry {earlier.sequence}" in verified(url, capsys, head)


def rewritten(rows: dict[str, list[dict[str, Any]]], change: Callable[[dict[str, Any]], None]) -> None:
    """A whole chain anew, with a head that fits."""
    digest = GENESIS
    for row in sorted(rows["entries"], key=lambda row: row["sequence"]):
        facts = json.loads(row["body"])
        change(facts)
        entry = link(row["sequence"], digest, {name: value for name, value in facts.items() if name not in ("sequence", "previous")})
        row["body"], row["digest"] = entry.body, entry.digest
        digest = entry.digest
    rows["head"][0]["digest"] = digest


async def test_a_chain_that_was_written_anew_is_found_by_the_head_that_was_told(
    url: str, ledger: Ledger, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    await lived_in(ledger)
    told = await ledger.head()
    head = f"{told.sequence}:{told.digest}"
    rows = tables(url)

    def other_teacher(facts: dict[str, Any]) -> None:
        if facts["kind"] == "hold":
            facts["teacher"] = "cheaper"

    rewritten(rows, other_teacher)
    for row in rows["holds"]:
        row["teacher"] = "cheaper"
    put(url, rows)
    assert verified(url, capsys) == "", "who writes all anew leaves nothing that does not fit"
    await buy(ledger, 10)
    assert "the chain was rewritten" in verified(url, capsys, head), "the ledger has gone on, and it is found all the same"
    chain = tmp_path / "chain.jsonl"
    assert main(["export", "--database", url, "--to", str(chain)]) == 0
    assert main(["verify", "--export", str(chain)]) == 0
    assert main(["verify", "--export", str(chain), "--head", head]) == 1


def test_a_head_is_a_number_and_a_digest(url: str, capsys: pytest.CaptureFixture[str]) -> None:
    for wrong in ("12", "12:abc", f"x:{'0' * 64}", f"²:{'0' * 64}"):
        assert main(["verify", "--database", url, "--head", wrong]) == 1
        assert "give SEQUENCE:DIGEST" in capsys.readouterr().err


async def test_a_ledger_of_before_this_format_still_verifies_and_goes_on(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    url = f"sqlite:///{tmp_path}/old.db"
    with sqlite3.connect(tmp_path / "old.db") as connection:
        connection.executescript((Path(__file__).parent / "format_1.sql").read_text())
    connection.close()
    ledger = await Ledger.open(url, NOON)
    try:
        assert verified(url, capsys) == ""
        await lived_in(ledger)
        assert verified(url, capsys) == ""
    finally:
        await ledger.close()
    sql(url, "UPDATE jobs SET hits = 0")
    assert "in hits" in verified(url, capsys), "what older entries did not tell was entered when the ledger was opened"
    sql(url, "UPDATE answers SET digest = 'x' WHERE key = 'key-00000000000000000000000000000006'")
    assert "in digest" in verified(url, capsys)

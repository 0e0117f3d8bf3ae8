"""What an auditor and an administrator can do: export, verify, backup, restore, accept."""

import json
from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import inspect
from tests.contract.ledger.conftest import Open
from tests.contract.ledger.test_holds import balances
from tests.unit.ledger.wallet import NOON, Wallet, answer

from distillery.gateway.ledger import Ledger, LedgerError, Need, ReadOnly, Unavailable, Why, database, migrations, rows, schema, verify
from distillery.gateway.ledger.commands import main


async def spend(ledger: Ledger, wallet: Wallet) -> None:
    """A bit of everything."""
    await ledger.reserve(wallet.job(), wallet.accounts(), Need(10, 1, 200, 200), NOON)
    holds = [wallet.hold(10, 5) for _ in range(5)]
    for hold in holds:
        await ledger.hold(hold)
    await ledger.settle(holds[0].id, 4, 1, 1, NOON, answer("äöü", b"\x00\xff"))
    await ledger.settle(holds[1].id, 14, 1, 1, NOON, None)
    await ledger.release(holds[2].id, NOON, Why.BUSY, status=429)
    await ledger.doubt(holds[3].id, NOON, Why.TIMEOUT)
    wallet.usd["daily"] = 10_000
    await ledger.give_back(wallet.job(), NOON)


def sql(url: str, statement: str) -> None:
    """What an intruder would do."""
    engine = database.connect(url)
    with engine.begin() as connection:
        connection.exec_driver_sql(statement)
    engine.dispose()


async def test_a_whole_ledger_verifies_and_so_does_its_export(url: str, ledger: Ledger, tmp_path: Path) -> None:
    await spend(ledger, Wallet(usd={"total": 100}))
    assert main(["verify", "--database", url]) == 0
    assert main(["export", "--database", url, "--to", str(tmp_path / "chain.jsonl")]) == 0
    assert main(["verify", "--export", str(tmp_path / "chain.jsonl")]) == 0
    lines = (tmp_path / "chain.jsonl").read_text().splitlines()
    assert lines == await ledger.entries(0, 1000)
    assert (json.loads(lines[-1])["digest"], len(lines)) == ((await ledger.head()).digest, (await ledger.head()).sequence)
    assert await ledger.entries(3, 2) == lines[3:5]


async def test_a_restored_ledger_grants_nothing_until_it_is_accepted(
    url: str, opened: Open, tmp_path: Path, request: pytest.FixtureRequest, capsys: pytest.CaptureFixture[str]
) -> None:
    wallet = Wallet(usd={"total": 100})
    ledger = await opened()
    await spend(ledger, wallet)
    assert main(["backup", "--database", url, "--to", str(tmp_path / "copy")]) == 0
    assert main(["backup", "--database", url, "--to", str(tmp_path / "copy")]) == 1, "a backup is not overwritten"
    await ledger.hold(wallet.hold(1))
    before = (await ledger.head()).sequence
    await ledger.close()
    assert main(["restore", "--database", url, "--from", str(tmp_path / "copy")]) == 1, "a ledger is not overwritten"
    if url.startswith("sqlite"):
        (tmp_path / "ledger.db").unlink()
    else:
        request.getfixturevalue("database")
        sql(url, "DROP SCHEMA public CASCADE; CREATE SCHEMA public")
    assert main(["restore", "--database", url, "--from", str(tmp_path / "copy")]) == 0
    restored = await opened(NOON + timedelta(hours=1))
    assert (await restored.head()).sequence < before
    found = await restored.answer("äöü")
    assert found is not None
    assert found.body == b"\x00\xff"
    with pytest.raises(ReadOnly, match="restored from the backup"):
        await restored.hold(wallet.hold(0))
    assert restored.read_only is not None
    accept = ["accept", "--database", url, "--why", "bill of November", "--spent", "team-a/main=0.00000005,7"]
    assert main([*accept, "--overrun", wallet.budget]) == 0
    assert main(["accept", "--database", url, "--why", "x", "--spent", "team-a=1"]) == 1
    for beyond in ("9000000000", "1e30", "1,99999999999999999999"):
        assert main(["accept", "--database", url, "--why", "x", "--spent", f"team-a/main={beyond}"]) == 1
    await restored.sweep(NOON + timedelta(hours=1, minutes=2))
    assert restored.read_only is None
    assert await balances(restored, wallet) == {"settled": 14 + 4 + 50, "in_doubt": 20}, "adjusted, overrun counted, dispatched in doubt"
    assert main(["verify", "--database", url]) == 0
    capsys.readouterr()


async def test_a_clock_that_once_ran_ahead_can_be_set_right(url: str, ledger: Ledger) -> None:
    wallet = Wallet(usd={"daily": 100})
    await ledger.hold(wallet.hold(1, at=NOON.replace(year=2136)))
    assert main(["accept", "--database", url, "--why", "broken clock", "--clock"]) == 0
    today = NOON.replace(year=2126)  # later than the day on which this test runs, earlier than the mistake
    await ledger.hold(wallet.hold(100, at=today))
    [use] = await ledger.windows((wallet.account("daily", today),))
    assert use.held == 100


async def test_migrations_make_the_schema_that_statements_expect(url: str, ledger: Ledger) -> None:
    found = inspect(database.connect(url))
    assert set(found.get_table_names()) == set(schema.metadata.tables)
    for name, table in schema.metadata.tables.items():
        assert {column["name"] for column in found.get_columns(name)} == set(table.columns.keys()), name
        assert found.get_pk_constraint(name)["constrained_columns"] == table.primary_key.columns.keys(), name


def test_rows_are_loaded_by_position() -> None:
    """Rows become objects by position, so both must name their fields in one order."""
    for table, row in (
        (schema.head, rows.HeadRow), (schema.accounts, rows.AccountRow), (schema.jobs, rows.JobRow),
        (schema.reservations, rows.ReservationRow), (schema.holds, rows.HoldRow),
    ):  # fmt: skip
        assert table.columns.keys() == list(row.__dataclass_fields__)


async def test_a_ledger_of_a_newer_program_is_not_touched(url: str, ledger: Ledger) -> None:
    await ledger.close()
    sql(url, f"INSERT INTO schema_versions VALUES ({len(migrations.STEPS) + 1}, 'tomorrow')")
    with pytest.raises(LedgerError, match="run the newer image"):
        await Ledger.open(url, NOON)


async def test_a_database_that_is_not_there_is_unavailable() -> None:
    for url in ("sqlite:////nowhere/at/all/ledger.db", "postgresql://nobody@127.0.0.1:1/none"):
        with pytest.raises(Unavailable, match="does not answer"):
            await Ledger.open(url, NOON)
    with pytest.raises(ValueError, match="give sqlite"):
        await Ledger.open("mysql://x/y", NOON)


def test_verify_needs_one_thing_to_verify(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["verify"]) == 1
    assert "give --database or --export" in capsys.readouterr().err
    assert verify.exported([]).faults == []

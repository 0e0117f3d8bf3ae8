"""Copies of a ledger: streamed, whole or refused, the same for both databases, private, and read-only when they come back."""

import io
import json
import stat
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from sqlalchemy import select
from tests.contract.ledger.conftest import Open
from tests.contract.ledger.test_audit import spend
from tests.unit.ledger.wallet import NOON, Wallet

from distillery.gateway.ledger import Ledger, LedgerError, ReadOnly, backup, database, dump, migrations, reading, schema
from distillery.gateway.ledger.commands import main

LATER = datetime(2026, 11, 25, tzinfo=UTC)


def dumped(url: str) -> bytes:
    """A copy."""
    with backup.snapshot(url) as connection:
        return b"".join(dump.dump(connection, LATER))


def rows(url: str) -> dict[str, list[tuple[object, ...]]]:
    """All that a dump holds, as the database has it."""
    with backup.snapshot(url) as connection:
        return {table.name: [tuple(row) for row in connection.execute(select(table))] for table in schema.DUMPED}


class Stream(io.TextIOWrapper):
    """A standard stream of these bytes."""

    def __init__(self, content: bytes = b"") -> None:
        super().__init__(io.BytesIO(content))

    @property
    def content(self) -> bytes:
        self.buffer.seek(0)
        return self.buffer.read()


@pytest.mark.parametrize("name", ["copy", "copy.gz", "-"])
async def test_a_copy_comes_back_the_same_and_read_only(
    name: str, url: str, ledger: Ledger, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await spend(ledger, Wallet(usd={"total": 100}))
    place = name if name == "-" else str(tmp_path / name)
    monkeypatch.setattr(sys, "stdout", out := Stream())
    assert main(["backup", "--database", url, "--to", place]) == 0
    before = rows(url)
    monkeypatch.setattr(sys, "stdin", Stream(out.content))
    monkeypatch.undo() if name != "-" else monkeypatch.setattr(sys, "stdout", Stream())
    copy = f"sqlite:///{tmp_path}/restored.db"
    assert main(["restore", "--database", copy, "--from", place]) == 0
    after = rows(copy)
    assert after.pop("head")[0][:4] == before.pop("head")[0][:4]
    assert after == before
    assert main(["verify", "--database", copy]) == 0
    restored = await Ledger.open(copy, NOON)
    with pytest.raises(ReadOnly, match="restored from the backup of"):
        await restored.hold(Wallet(usd={"total": 100}).hold(1))
    await restored.close()


async def test_a_copy_of_either_database_becomes_a_ledger_in_the_other(postgres: str, database: str, tmp_path: Path) -> None:
    first = await Ledger.open(f"sqlite:///{tmp_path}/ledger.db", NOON)
    await spend(first, Wallet(usd={"total": 100}))
    await first.close()
    (tmp_path / "copy").write_bytes(dumped(f"sqlite:///{tmp_path}/ledger.db"))
    assert main(["restore", "--database", database, "--from", str(tmp_path / "copy")]) == 0
    assert main(["verify", "--database", database]) == 0
    (tmp_path / "back").write_bytes(dumped(database))
    assert main(["restore", "--database", f"sqlite:///{tmp_path}/again.db", "--from", str(tmp_path / "back")]) == 0
    assert rows(f"sqlite:///{tmp_path}/again.db") == rows(database)


def _all_but_the_last_line(whole: bytes) -> bytes:
    return whole[: whole.rstrip(b"\n").rfind(b"\n") + 1]


@pytest.mark.parametrize(
    ("spoil", "told"),
    [
        (lambda whole: whole[:-1], "it was cut off"),
        (lambda whole: whole[: len(whole) // 2], "it was cut off"),
        (_all_but_the_last_line, "it was cut off"),
        (lambda whole: whole.replace(b'settle\\"', b'sattle\\"'), "its digest differs"),
        (lambda whole: whole.replace(b'"table":"holds"', b'"table":"molds"'), ""),
        (lambda whole: whole + b"[1]\n", "it was cut off"),
        (lambda whole: b"", "not the header"),
        (lambda whole: b"SQLite format 3\0" + whole, "not the header"),
        (lambda whole: b"".join(backup.packed([whole]))[:-20], "it was cut off"),
        (lambda whole: b"\x1f\x8b" + whole, "damaged"),
    ],
)  # fmt: skip
async def test_a_copy_that_is_not_whole_makes_no_ledger_and_is_stored_nowhere(
    spoil: object, told: str, url: str, ledger: Ledger, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    await spend(ledger, Wallet(usd={"total": 100}))
    spoilt: bytes = spoil(dumped(url))  # type: ignore[operator]
    (tmp_path / "copy").write_bytes(spoilt)
    copy = f"sqlite:///{tmp_path}/restored.db"
    assert main(["restore", "--database", copy, "--from", str(tmp_path / "copy")]) == 1
    assert told in capsys.readouterr().err
    assert main(["restore", "--database", copy, "--from", str(tmp_path / "whole")]) == 1, "and the place for one is still free"
    if not spoilt.startswith(b"\x1f"):
        with pytest.raises(LedgerError):
            backup.backup([spoilt], str(tmp_path / "stored"), None)
        assert not (tmp_path / "stored").exists()
    (tmp_path / "whole").write_bytes(dumped(url))
    assert main(["restore", "--database", copy, "--from", str(tmp_path / "whole")]) == 0


def test_of_two_that_write_to_one_file_the_second_is_refused_and_one_that_was_killed_is_not_in_the_way(tmp_path: Path) -> None:
    def blocks() -> Iterator[bytes]:
        yield b"first "
        with pytest.raises(LedgerError, match="another one is being written there"):
            backup._to_file(iter([b"second"]), target)
        yield b"copy"

    target = tmp_path / "copy"
    (tmp_path / "copy.partial").write_bytes(b"what a longer one that was killed has left behind")
    backup._to_file(blocks(), target)
    assert target.read_bytes() == b"first copy"
    with pytest.raises(LedgerError, match="the file exists"):
        backup._to_file(iter([b"third"]), target)
    assert [path.name for path in tmp_path.iterdir()] == ["copy"]
    assert stat.S_IMODE(target.stat().st_mode) == 0o600


@pytest.mark.parametrize("words", [["backup", "--to", "-"], ["verify"], ["doubts"], ["export"]])
def test_a_mistyped_name_makes_no_ledger(words: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([words[0], "--database", f"sqlite:///{tmp_path}/ledgre.db", *words[1:]]) == 1
    assert "there is no such file" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


async def test_a_copy_made_by_an_older_program_is_brought_to_todays_schema(
    url: str, ledger: Ledger, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await spend(ledger, Wallet(usd={"total": 100}))
    (tmp_path / "copy").write_bytes(dumped(url))
    newer = ("ALTER TABLE jobs ADD COLUMN colour TEXT NOT NULL DEFAULT 'blue'", "UPDATE jobs SET colour = 'red' WHERE requests > 0")
    monkeypatch.setattr(migrations, "STEPS", (*migrations.STEPS, newer))
    copy = f"sqlite:///{tmp_path}/restored.db"
    assert main(["restore", "--database", copy, "--from", str(tmp_path / "copy")]) == 0
    with backup.snapshot(copy) as connection:
        assert connection.exec_driver_sql("SELECT colour FROM jobs").scalars().all() == ["red"]
    monkeypatch.undo()


async def test_a_copy_of_a_newer_program_is_refused(url: str, ledger: Ledger, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    header, _, rest = dumped(url).partition(b"\n")
    newer = {**json.loads(header), "schema": 99}
    (tmp_path / "copy").write_bytes(json.dumps(newer).encode() + b"\n" + rest)
    assert main(["restore", "--database", f"sqlite:///{tmp_path}/restored.db", "--from", str(tmp_path / "copy")]) == 1
    assert "use the newer image" in capsys.readouterr().err


async def test_a_copy_is_one_state_and_the_gateway_goes_on_meanwhile(url: str, opened: Open, tmp_path: Path) -> None:
    """However long it takes to read: what is booked meanwhile is not in it, and does not wait for it."""
    ledger, wallet = await opened(), Wallet(usd={"total": 1000})
    await spend(ledger, wallet)
    with backup.snapshot(url) as connection:
        blocks = dump.dump(connection, LATER)
        lines = dump._lines(connection, LATER)
        header = json.loads(next(lines))
        for _ in range(20):
            await ledger.hold(wallet.hold(1))
        entries = [line for line in lines if line.startswith(b"[") and b"previous" in line]
        assert len(entries) == header["entries"] == reading.head(connection).sequence
        (tmp_path / "copy").write_bytes(b"".join(blocks))
    assert (await ledger.head()).sequence > header["entries"]
    copy = f"sqlite:///{tmp_path}/restored.db"
    assert main(["restore", "--database", copy, "--from", str(tmp_path / "copy")]) == 0
    assert main(["verify", "--database", copy]) == 0


async def test_copies_are_private(url: str, ledger: Ledger, tmp_path: Path) -> None:
    assert main(["backup", "--database", url, "--to", str(tmp_path / "copy.gz")]) == 0
    assert main(["restore", "--database", f"sqlite:///{tmp_path}/restored.db", "--from", str(tmp_path / "copy.gz")]) == 0
    assert {stat.S_IMODE((tmp_path / name).stat().st_mode) for name in ("copy.gz", "restored.db")} == {0o600}


def test_every_table_is_in_a_copy() -> None:
    assert {table.name for table in schema.DUMPED} == set(schema.metadata.tables) - {"schema_versions"}


@pytest.fixture
def no_environment(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    monkeypatch.delenv("DISTILLERY_LEDGER", raising=False)
    monkeypatch.delenv("DISTILLERY_LEDGER_FILE", raising=False)
    return monkeypatch


async def test_in_the_gateways_pod_the_ledger_is_known(
    url: str, ledger: Ledger, no_environment: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with pytest.raises(SystemExit):
        main(["export"])
    no_environment.setenv("DISTILLERY_LEDGER", url)
    assert main(["backup", "--to", str(tmp_path / "copy")]) == 0
    no_environment.delenv("DISTILLERY_LEDGER")
    (tmp_path / "url").write_text(f"{url}\n")
    no_environment.setenv("DISTILLERY_LEDGER_FILE", str(tmp_path / "url"))
    assert main(["backup", "--to", str(tmp_path / "second")]) == 0
    assert database.connect(url) is not None


def test_what_is_asked_for_wrongly_is_told(no_environment: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    for arguments, told in (
        (["--to", "-"], "give --database or --gateway"),
        (["--gateway", "http://x", "--to", "-"], "reached by `distillery-gateway ledger` alone"),
        (["--gateway", "http://x", "--to", "s3://b/one", "--keep", "3"], "a folder of an object store"),
        (["--gateway", "http://x", "--to", "s3://b/", "--keep", "0"], "a number from 1"),
    ):
        assert main(["backup", *arguments]) == 1
        assert told in capsys.readouterr().err

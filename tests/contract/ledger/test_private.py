"""The files of a ledger are for its owner alone: prompts and answers of tenants are in them."""

import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.unit.ledger.wallet import NOON, Wallet

from distillery.gateway.ledger import Ledger, database


@pytest.fixture(autouse=True)
def wide_umask() -> Iterator[None]:
    before = os.umask(0o000)
    yield
    os.umask(before)


def modes(folder: Path) -> dict[str, int]:
    return {path.name: stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir() if path.is_file()}


async def test_a_new_ledger_and_what_lies_beside_it_while_it_is_open(tmp_path: Path) -> None:
    ledger = await Ledger.open(f"sqlite:///{tmp_path}/ledger.db", NOON)
    await ledger.hold(Wallet(usd={"total": 100}).hold(1))
    assert modes(tmp_path) == {"ledger.db": 0o600, "ledger.db-wal": 0o600, "ledger.db-shm": 0o600}
    await ledger.close()


async def test_the_log_of_a_ledger_that_was_moved_away_is_not_read_into_a_new_one(tmp_path: Path) -> None:
    ledger = await Ledger.open(f"sqlite:///{tmp_path}/ledger.db", NOON)
    await ledger.hold(Wallet(usd={"total": 100}).hold(1))
    (tmp_path / "ledger.db").rename(tmp_path / "old.db")
    with pytest.raises(ValueError, match="move both away"):
        await Ledger.open(f"sqlite:///{tmp_path}/ledger.db", NOON)
    await ledger.close()


async def test_an_older_ledger_is_closed_to_others_when_it_is_opened(tmp_path: Path) -> None:
    first = await Ledger.open(f"sqlite:///{tmp_path}/ledger.db", NOON)
    await first.hold(Wallet(usd={"total": 100}).hold(1))
    for path in tmp_path.iterdir():
        path.chmod(0o664)
    database.connect(f"sqlite:///{tmp_path}/ledger.db", reading=True).dispose()
    assert modes(tmp_path) == {"ledger.db": 0o600, "ledger.db-wal": 0o600, "ledger.db-shm": 0o600}
    await first.close()

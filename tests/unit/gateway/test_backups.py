"""The whole ledger over HTTP: for one ServiceAccount, streamed by a process of its own, and either whole or refused by whoever takes it."""

import asyncio
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest
from tests.loopback import Objects
from tests.unit.ledger.wallet import NOON, Wallet, answer

from distillery.gateway.backups import Backups
from distillery.gateway.door import Door
from distillery.gateway.identity import Identities
from distillery.gateway.ledger import Ledger, LedgerError, commands
from distillery.gateway.server import application
from distillery.gateway.vault import Vault
from distillery.health import serving
from distillery.settings import GATEWAY_AUDIENCE


def review(name: str) -> dict[str, object]:
    """Of a ServiceAccount in the release's namespace."""
    return {"authenticated": True, "audiences": [GATEWAY_AUDIENCE], "user": {"username": f"system:serviceaccount:distillery:{name}"}}


@pytest.fixture
async def ledger_url(tmp_path: Path) -> str:
    url = f"sqlite:///{tmp_path}/ledger.db"
    ledger, wallet = await Ledger.open(url, NOON), Wallet(usd={"total": 10**9})
    for number in range(40):
        hold = wallet.hold(100)
        await ledger.hold(hold)
        await ledger.settle(hold.id, 90, 1, 1, NOON, answer(f"k{number}", b"{}" * 50_000))
    await ledger.close()
    return url


@pytest.fixture
async def server(ledger_url: str, tmp_path: Path) -> AsyncIterator[str]:
    objects = Objects()
    objects.tokens = {name: review(name) for name in ("backup", "operator", "stranger")}
    for name in objects.tokens:
        (tmp_path / name).write_text(f"{name}\n")
    door = Door(asyncio.get_running_loop().time)
    identities = Identities(objects, asyncio.get_running_loop().time, door)
    routes = Backups(identities, ("distillery", "backup"), ledger_url).routes()
    async with serving(application(routes, door), "127.0.0.1", 0) as port:
        yield f"http://127.0.0.1:{port}"


async def test_a_copy_is_taken_from_the_gateway_by_its_account_alone(
    server: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    def taken(token: str, name: str) -> int:
        arguments = ["backup", "--gateway", server, "--token-file", str(tmp_path / token), "--to", str(tmp_path / name)]
        return commands.main(arguments, lambda: Vault({}))

    assert await asyncio.to_thread(taken, "backup", "copy.gz") == 0
    restored = f"sqlite:///{tmp_path}/restored.db"
    assert commands.main(["restore", "--database", restored, "--from", str(tmp_path / "copy.gz")]) == 0
    assert commands.main(["verify", "--database", restored]) == 0
    capfd.readouterr()
    for token in ("operator", "stranger"):
        assert await asyncio.to_thread(taken, token, "none") == 1
        assert "may not back up the ledger" in capfd.readouterr().err
    assert not (tmp_path / "none").exists()


async def test_a_dump_that_breaks_off_is_no_copy(server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As when its process is killed for want of memory."""
    broken = tmp_path / "python"
    broken.write_text(f'#!/bin/sh\n{sys.executable} "$@" | head -c 200000\nexit 137\n')
    broken.chmod(0o700)
    monkeypatch.setattr("distillery.gateway.backups.sys.executable", str(broken))
    arguments = ["backup", "--gateway", server, "--token-file", str(tmp_path / "backup"), "--to", str(tmp_path / "copy.gz")]
    with pytest.raises(LedgerError, match="broke off"):
        await asyncio.to_thread(lambda: list(Vault({}).fetch(server, tmp_path / "backup")))
    assert await asyncio.to_thread(commands.main, arguments, lambda: Vault({})) == 1
    assert not (tmp_path / "copy.gz").exists()


async def test_a_ledger_that_cannot_be_read_is_told_before_anything_is_sent(
    server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("distillery.gateway.backups.sys.executable", "/bin/false")
    async with aiohttp.ClientSession() as http, http.get(f"{server}/v1/ledger/backup", headers={"Authorization": "Bearer backup"}) as found:
        assert (found.status, (await found.json())["error"]["code"]) == (503, "gateway_unavailable")


async def test_who_goes_away_ends_the_process(server: str) -> None:
    """And the next one gets its turn."""
    headers = {"Authorization": "Bearer backup"}
    async with aiohttp.ClientSession() as http:
        for _ in range(3):
            async with http.get(f"{server}/v1/ledger/backup", headers=headers) as found:
                assert found.status in (200, 503)
                found.close()
        async with asyncio.timeout(20):
            while True:
                async with http.get(f"{server}/v1/ledger/backup", headers=headers) as found:
                    if found.status == 200:
                        assert (await found.read()).rstrip().endswith(b"}")
                        return

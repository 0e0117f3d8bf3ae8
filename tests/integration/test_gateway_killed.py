"""Money is exact while everything goes wrong: racing clients, a teacher that lies, and gateways that are killed every few seconds.

GATEWAY_SECONDS (40) is how long it goes on, for each database. `pytest -m slow tests/integration/test_gateway_killed.py -s` prints figures.
"""

import asyncio
import os
import random
import signal
import socket
import sys
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import aiohttp
import pgserver
import pytest
import yaml
from sqlalchemy import select
from tests.integration.lying_teacher import LyingTeacher
from tests.unit.gateway.conftest import budget, job, teacher_spec

from distillery.gateway.ledger import Ledger, commands, database, schema
from distillery.health import serving

pytestmark = pytest.mark.slow
SECONDS = float(os.environ.get("GATEWAY_SECONDS", "40"))
CLIENTS, QUESTIONS = 256, 6000
#: Budget of a job: what it may spend in all. The first runs out midway, the second never, the third meets bills above its holds.
LIMITS = {"scarce": "0.06", "ample": "50.00", "cheated": "50.00"}
_ROOT = Path(__file__).parent.parent.parent


@dataclass
class Gateway:
    """One gateway process on a port of its own; `up` is set while it serves."""

    arguments: list[str]
    port: int
    up: asyncio.Event = field(default_factory=asyncio.Event)
    kills: int = 0
    process: asyncio.subprocess.Process | None = None

    async def start(self) -> None:
        """Start it and wait until it serves."""
        command = [sys.executable, "-m", "tests.loopback", *self.arguments, "--port", str(self.port), "--log-level", "error"]
        environment = {**os.environ, "PYTHONPATH": f"{_ROOT / 'operator'}:{_ROOT}"}
        self.process = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE, cwd=_ROOT, env=environment)
        assert self.process.stdout is not None
        line = await asyncio.wait_for(self.process.stdout.readline(), 60)
        assert line.startswith(b"http://"), "the gateway did not start; its log is above"
        self.up.set()

    async def kill(self) -> None:
        """SIGKILL: nothing is said, nothing is tidied up."""
        assert self.process is not None
        self.up.clear()
        self.process.send_signal(signal.SIGKILL)
        await self.process.wait()
        self.kills += 1

    async def stop(self) -> None:
        """SIGTERM, and wait."""
        if self.process is not None and self.process.returncode is None:
            self.process.terminate()
            await asyncio.wait_for(self.process.wait(), 60)


@dataclass
class Race:
    """The clients, and what they were told."""

    gateways: list[Gateway]
    rng: random.Random
    told: Counter[str] = field(default_factory=Counter)
    over: bool = False

    async def client(self, http: aiohttp.ClientSession, number: int) -> None:
        """Ask one question after the other; come back when the gateway does."""
        while not self.over:
            gateway = self.gateways[number % len(self.gateways)]
            try:
                await asyncio.wait_for(gateway.up.wait(), 60)
                self.told[await self._ask(http, gateway)] += 1
            except (aiohttp.ClientError, OSError, TimeoutError):
                self.told["cut off"] += 1

    async def _ask(self, http: aiohttp.ClientSession, gateway: Gateway) -> str:
        name = self.rng.choice([*LIMITS])
        text = f"{name} {int(self.rng.triangular(0, QUESTIONS, 0))}"
        body: dict[str, Any] = {"model": "gpt-x", "messages": [{"role": "user", "content": text}], "max_completion_tokens": 50}
        if self.rng.random() < 0.2:
            body["stream"] = True
        headers = {"Authorization": f"Bearer pod:nlp/{name}/traces/{self.rng.randint(0, 3)}"}
        url = f"http://127.0.0.1:{gateway.port}/v1/chat/completions"
        async with http.post(url, json=body, headers=headers) as response:
            content = await response.read()
            if response.status == 200:
                return response.headers["X-Distillery-Cache"] if b'"code": "in_doubt"' not in content else "in_doubt"
            found: str = (await response.json())["error"]["code"]
            return f"{found} ({name})" if found in ("budget_exhausted", "overrun") else found


async def killer(race: Race) -> None:
    """Kill a gateway every few seconds, and start it again."""
    loop = asyncio.get_running_loop()
    end, number = loop.time() + SECONDS, 0
    stop = asyncio.Event()
    while loop.time() < end:
        with suppress(TimeoutError):
            await asyncio.wait_for(stop.wait(), race.rng.uniform(2, 3))
        gateway = race.gateways[number % len(race.gateways)]
        number += 1
        await gateway.kill()
        await gateway.start()


@pytest.fixture(params=["sqlite", "postgres"])
def ledger(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """The URL of an empty ledger."""
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path}/ledger.db"
        return
    server = pgserver.get_server(tmp_path / "postgres")
    yield server.get_uri()
    server.cleanup()


@asynccontextmanager
async def gateways(ledger: str, manifests: Path, count: int) -> AsyncIterator[list[Gateway]]:
    """So many gateways on one ledger."""
    arguments = ["--ledger", ledger, "--budget", str(manifests), "--teacher-timeout", "1.5"]
    found = [Gateway(arguments, _free_port()) for _ in range(count)]
    try:
        for gateway in found:
            await gateway.start()
        yield found
    finally:
        for gateway in found:
            await gateway.stop()


def _free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port: int = found.getsockname()[1]
        return port


async def test_no_limit_is_overspent_and_no_request_is_without_a_hold(ledger: str, tmp_path: Path) -> None:
    teachers = {name: LyingTeacher(random.Random(f"{ledger[:6]} {name}"), 0.001 if name == "cheated" else 0.0) for name in LIMITS}
    manifests, race = tmp_path / "manifests.yaml", None
    async with _served(teachers) as urls, aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as http:
        manifests.write_text(yaml.safe_dump_all(_manifests(urls)))
        # Postgres is for several gateways at once
        async with gateways(ledger, manifests, 1 if ledger.startswith("sqlite") else 2) as found:
            race = Race(found, random.Random(1))
            clients = [asyncio.create_task(race.client(http, number)) for number in range(CLIENTS)]
            await killer(race)
            race.over = True
            await asyncio.gather(*clients)
    await _swept(ledger)
    _report(ledger, race, teachers, _check(ledger, teachers))


async def _swept(url: str) -> None:
    """As the next gateway does, once the killed ones are known to be dead: what they left has no outcome that anybody knows."""
    later = datetime.now(UTC) + timedelta(minutes=2)
    ledger = await Ledger.open(url, later)
    await ledger.sweep(later)
    await ledger.close()


@asynccontextmanager
async def _served(teachers: dict[str, LyingTeacher]) -> AsyncIterator[dict[str, str]]:
    async with (
        serving(teachers["scarce"].app(), "127.0.0.1", 0) as scarce,
        serving(teachers["ample"].app(), "127.0.0.1", 0) as ample,
        serving(teachers["cheated"].app(), "127.0.0.1", 0) as cheated,
    ):
        yield {
            "scarce": f"http://127.0.0.1:{scarce}/v1",
            "ample": f"http://127.0.0.1:{ample}/v1",
            "cheated": f"http://127.0.0.1:{cheated}/v1",
        }


def _manifests(urls: dict[str, str]) -> list[dict[str, Any]]:
    found = []
    for name, limit in LIMITS.items():
        teacher = teacher_spec(urls[name], credential=None, rateLimits={"maxConcurrency": 64})
        found += [budget("", {"total": limit, "daily": limit}, name, teachers=[teacher]), job(name, name)]
    return found


def _check(ledger: str, teachers: dict[str, LyingTeacher]) -> dict[str, Any]:
    """Everything that must be true; gives the rows that the figures are from."""
    assert commands.main(["verify", "--database", ledger]) == 0, "chain, rules (I1 after every grant) and balances"
    engine = database.connect(ledger, reading=True)
    with engine.connect() as connection:
        holds = {row.id: row for row in connection.execute(select(schema.holds))}
        accounts = [row for row in connection.execute(select(schema.accounts)) if row.bound is not None and row.unit == "USD"]
    engine.dispose()
    assert {row.state for row in holds.values()} <= {"settled", "released", "inDoubt"}, "every hold has ended"
    for account in accounts:
        used = account.settled + account.held + account.reserved + account.in_doubt
        assert used <= account.bound, f"{account.budget} {account.span}: {used} of {account.bound}"
    for name, teacher in teachers.items():
        seen = [request.hold for request in teacher.seen]
        assert len(set(seen)) == len(seen), "no request was sent twice under one hold"
        assert set(seen) <= holds.keys(), "every request that the teacher saw has a hold"
        rows = [holds[hold] for hold in seen]
        booked = sum(row.billed if row.state == "settled" else row.amount * (row.state == "inDoubt") for row in rows)
        billed = sum(request.billed for request in teacher.seen)
        assert billed <= booked, f"{name}: the teacher bills {billed}, the ledger knows of {booked}"
        bought = Counter(holds[hold].request_key for hold in seen if holds[hold].state == "settled")
        assert not bought or max(bought.values()) == 1, "no answer is bought twice"
    return {"holds": Counter(row.state for row in holds.values()), "accounts": accounts}


def _report(ledger: str, race: Race, teachers: dict[str, LyingTeacher], found: dict[str, Any]) -> None:
    kills = sum(gateway.kills for gateway in race.gateways)
    print(f"\n{ledger.partition(':')[0]}: {SECONDS:g} s, {CLIENTS} clients, {len(race.gateways)} gateways, {kills} kills")
    print(f"  clients were told: {dict(race.told.most_common())}")
    print(f"  holds: {dict(found['holds'])}")
    for name, teacher in teachers.items():
        billed = sum(request.billed for request in teacher.seen) / 1e9
        print(f"  teacher {name}: {len(teacher.seen)} requests, billed ${billed:.6f}; {teacher.counted()}")
    for account in sorted(found["accounts"], key=lambda row: (row.budget, row.span)):
        parts = ", ".join(f"{part} {getattr(account, part) / 1e9:.6f}" for part in ("settled", "held", "in_doubt", "overrun"))
        print(f"  {account.budget} {account.span} of {account.bound / 1e9:.2f}: {parts}")

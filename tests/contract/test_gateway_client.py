"""The operator and the real gateway, over HTTP on loopback: what tests/crash proves with a gateway in memory holds with this one."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from tests.crash.ends import End
from tests.crash.specs import BUDGET, ENDPOINT, TERMS
from tests.crash.world import KEY, World
from tests.loopback import Objects, gateway

from distillery.api.usage import BudgetSnapshot
from distillery.cluster import Body, BudgetKey
from distillery.gateway.credentials import Credentials
from distillery.gateway.standing import Law
from distillery.gateway_client import HttpGateway
from distillery.metrics import Metrics
from distillery.observe import Silence
from distillery.reconcile_budget import reconcile_budget

URL = BUDGET["teachers"][0]["baseURL"]


class Seen(Objects):
    """What the gateway reads of the world's API server."""

    def __init__(self, world: World) -> None:
        super().__init__()
        self.world = world

    async def get_job(self, namespace: str, name: str) -> Body:
        return self.world.cluster.get("DistillationJob", namespace, name)

    async def get_budget(self, namespace: str, name: str) -> Body:
        return self.world.cluster.get("TeacherBudget", namespace, name)


@asynccontextmanager
async def connected(world: World, folder: Path, known_urls: set[str] | None = None) -> AsyncIterator[HttpGateway]:
    """The world's operator speaks to a gateway with a fresh ledger."""
    law = Law(TERMS, Credentials((), {URL} if known_urls is None else known_urls, time.monotonic), ())
    (folder / "token").write_text("operator")
    async with (
        gateway(Seen(world), law, f"sqlite:///{folder}/ledger.db", now=lambda: world.now) as (url, _),
        HttpGateway(url, folder / "token", Metrics()) as client,
    ):
        world.gateway = client  # type: ignore[assignment]
        yield client


def buying(limits: dict[str, Any], **spec: Any) -> World:
    """A job whose traces pods go on running."""
    return World(spec=ENDPOINT | spec, budget=BUDGET | {"limits": limits}, script=lambda stage, run: None if stage == "traces" else End())


async def window(client: HttpGateway) -> dict[str, str]:
    """The first window of the budget."""
    found = await client.budget(KEY.namespace, "team")
    assert isinstance(found, BudgetSnapshot)
    return dict(found.windows[0].wire())


async def test_money_is_held_while_traces_run_and_back_when_they_are_there(tmp_path: Path) -> None:
    world = buying({"daily": "10.00"})
    async with connected(world, tmp_path) as client:
        await world.run(until=lambda: world.stage("traces").get("state") == "Running")
        assert world.condition("BudgetReserved") == ("True", "BudgetReserved")
        assert float((await window(client))["held"]) > 0
        world.script = lambda stage, run: End()
        await world.run()
        assert world.condition("Succeeded") == ("True", "Done")
        assert world.condition("BudgetReserved") == ("True", "Released")
        assert world.status["teacherUsage"]["cost"] == "0.00"
        assert (await window(client))["remaining"] == "10.00"


async def test_a_limit_that_is_too_low_waits_with_its_end_and_a_raised_one_goes_on(tmp_path: Path) -> None:
    world = buying({"daily": "0.000001"})
    async with connected(world, tmp_path):
        await world.run(until=lambda: world.condition("BudgetReserved") == ("False", "BudgetExhausted"))
        (told,) = [c["message"] for c in world.status["conditions"] if c["type"] == "BudgetReserved"]
        assert "daily 2026-01-01" in told
        assert "2026-01-02T00:00:00Z" in told
        assert not any("-traces-" in job["metadata"]["name"] for job in world.jobs())
        world.grant(BUDGET)
        await world.run(until=lambda: world.stage("traces").get("state") == "Running", hours=0.1)


@pytest.mark.parametrize(
    ("urls", "use", "condition", "expected"),
    [
        (set(), {}, "BudgetReserved", ("False", "BaseURLForbidden")),
        (None, {"competes": True}, "Validated", ("False", "TermsForbidUse")),
    ],
)
async def test_what_the_platform_forbids_is_a_condition(
    tmp_path: Path, urls: set[str] | None, use: dict[str, Any], condition: str, expected: tuple[str, str]
) -> None:
    declared = {"declaredUse": {"purpose": "internal", "competes": False} | use}
    world = buying({"daily": "10.00"}, governance=declared)
    async with connected(world, tmp_path, urls):
        await world.run(until=lambda: world.condition(condition) == expected)
        assert not any("-traces-" in job["metadata"]["name"] for job in world.jobs())


async def test_money_comes_back_from_a_job_that_is_edited_to_a_teacher_without_price(tmp_path: Path) -> None:
    world = buying({"daily": "10.00"})
    async with connected(world, tmp_path) as client:
        await world.run(until=lambda: world.stage("traces").get("state") == "Running")
        world.edit(suspend=True, teacher={"model": {"uri": "hf://org/teacher"}}, budgetRef=None)
        await world.run(until=lambda: world.condition("Suspended")[0] == "True" and "budgetClaimed" not in world.status)
        assert (await window(client))["remaining"] == "10.00"


async def test_the_snapshot_of_the_ledger_is_the_status_of_the_budget(tmp_path: Path) -> None:
    world = buying({"daily": "10.00", "perJob": "5.00", "tokens": {"total": 100_000}})
    async with connected(world, tmp_path) as client:
        await world.run(until=lambda: world.stage("traces").get("state") == "Running")
        await reconcile_budget(BudgetKey(KEY.namespace, "team"), world.cluster, client, lambda: world.now, lambda key: None)
        status = world.cluster.get("TeacherBudget", KEY.namespace, "team")["status"]
        assert {c["type"]: c["status"] for c in status["conditions"]} == {
            "Ready": "True",
            "Exhausted": "False",
            "SoftLimitExceeded": "False",
            "MoneyInDoubt": "False",
            "Stalled": "False",
        }
        assert status["summary"]["window"] == "daily"
        assert float(status["summary"]["reserved"]) > 0
        assert [w["unit"] for w in status["windows"]] == ["USD", "tokens"]


async def test_a_gateway_that_is_gone_grants_nothing(tmp_path: Path) -> None:
    world = buying({"daily": "10.00"})
    async with connected(world, tmp_path):
        pass
    async with HttpGateway("http://127.0.0.1:1", tmp_path / "token", Metrics()) as nobody:
        world.gateway = nobody  # type: ignore[assignment]
        await world.run(until=lambda: world.condition("BudgetReserved") == ("Unknown", "GatewayUnavailable"))
        assert isinstance(await nobody.budget(KEY.namespace, "team"), Silence)

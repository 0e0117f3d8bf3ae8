"""One pass over a TeacherBudget, on the cluster and the gateway in memory."""

from __future__ import annotations

import pytest
from tests.crash.fake_cluster import Killed
from tests.crash.specs import BUDGET, ENDPOINT, MINIMAL
from tests.crash.world import KEY, World
from tests.unit.operator.test_teacher_budget import DAILY, snapshot

from distillery.cluster import Body, BudgetKey, Key
from distillery.reconcile_budget import reconcile_budget

TEAM = BudgetKey(KEY.namespace, "team")


class Watched(World):
    """A job, its budget, and who is woken."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.woken: list[Key] = []

    @property
    def team(self) -> Body:
        """The budget."""
        return self.cluster.get("TeacherBudget", TEAM.namespace, TEAM.name)

    async def look(self, key: BudgetKey = TEAM) -> float | None:
        return await reconcile_budget(key, self.cluster, self.gateway, lambda: self.now, self.woken.append)


def watched() -> Watched:
    world = Watched(spec=ENDPOINT, budget=BUDGET)
    world.gateway.snapshot = snapshot()
    return world


async def test_the_snapshot_becomes_the_status_and_nothing_more_is_written() -> None:
    world = watched()
    assert await world.look() == 15
    status = world.team["status"]
    assert status["summary"]["remaining"] == "4.50"
    assert status["windows"][0] == DAILY.wire()
    writes = world.cluster.calls.count("patch_budget_status")
    await world.look()
    assert world.cluster.calls.count("patch_budget_status") == writes


async def test_a_change_wakes_the_jobs_of_this_budget_that_go_on() -> None:
    world = watched()
    others = {
        "other-budget": ENDPOINT | {"budgetRef": {"name": "other"}},
        "no-budget": MINIMAL,
        "ended": ENDPOINT,
        "waits": ENDPOINT,
    }
    for name, spec in others.items():
        world.cluster.create({"kind": "DistillationJob", "metadata": {"name": name, "namespace": KEY.namespace}, "spec": spec})
    ended = world.cluster.get("DistillationJob", KEY.namespace, "ended")
    world.cluster.put({**ended, "status": {"conditions": [{"type": "Succeeded", "status": "True"}]}})
    await world.look()
    assert [key.name for key in world.woken] == [KEY.name, "waits"]
    await world.look()
    assert len(world.woken) == 2
    world.grant(BUDGET | {"limits": {"daily": "20.00"}})
    await world.look()
    assert len(world.woken) == 4


async def test_a_budget_that_is_gone_or_going_is_left_alone() -> None:
    world = watched()
    assert await world.look(BudgetKey(KEY.namespace, "other")) is None
    world.cluster.delete(
        "TeacherBudget", KEY.namespace, "team", world.cluster.get("TeacherBudget", KEY.namespace, "team")["metadata"]["uid"]
    )
    assert await world.look() is None


async def test_an_invalid_spec_is_said_without_asking_the_gateway() -> None:
    world = watched()
    world.grant(BUDGET | {"limits": {}})
    await world.look()
    assert "budget" not in world.cluster.calls
    (ready,) = [c for c in world.team["status"]["conditions"] if c["type"] == "Ready"]
    assert (ready["status"], ready["reason"]) == ("False", "InvalidSpec")


@pytest.mark.parametrize("after", [False, True])
async def test_dying_at_any_call_loses_no_waking(after: bool) -> None:
    whole = watched()
    await whole.look()
    for call in range(1, len(whole.cluster.calls) + 1):
        world = watched()
        world.cluster.kill_at, world.cluster.kill_after_effect = call, after
        with pytest.raises(Killed):
            await world.look()
        world.cluster.kill_at = None
        await world.look()
        assert world.woken or (after and call == len(whole.cluster.calls))
        assert (
            world.cluster.get("TeacherBudget", KEY.namespace, "team")["status"]
            == whole.cluster.get("TeacherBudget", KEY.namespace, "team")["status"]
        )

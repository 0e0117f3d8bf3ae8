"""A job that waits has said why, and costs no request while nothing changes: what it waits for is told by an event, or by the resync."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from tests.crash.paths import QUEUED
from tests.crash.specs import BUDGET, ENDPOINT, MINIMAL
from tests.crash.test_watches import Watching
from tests.crash.world import KEY, World

from distillery.api.status import DistillationJobStatus
from distillery.cluster import Body
from distillery.timestamps import stamp

TOO_SMALL = "0/3 nodes are available: 3 Insufficient nvidia.com/gpu."
QUOTA = 'Error creating: pods "tiny-a-x7k2p" is forbidden: exceeded quota: small'


class Held(World):
    """Its pods do not run until they are let go."""

    said: Body = {"phase": "Pending", "conditions": [{"type": "PodScheduled", "status": "False", "message": TOO_SMALL}]}  # noqa: RUF012
    held = True

    def start_pod(self, job: Body, state: Body | None = None) -> Body:
        """A pod that says why it waits."""
        made = super().start_pod(job, state)
        if self.held:
            made = self.cluster.put({**made, "status": self.said})
            self.count(job)
        return made

    def let_go(self) -> None:
        """Its pods run."""
        self.held = False
        for job in self.jobs():
            for pod in self.pods(job):
                status = {"phase": "Running", "containerStatuses": [{"name": "stage", "state": {"running": {}}}]}
                self.cluster.put({**pod, "status": status})
            self.count(job)


class Silent(Held):
    """Its pods wait and do not say why."""

    said: Body = {"phase": "Pending"}  # noqa: RUF012


class NotBegun(World):
    """The Job controller is busy with other Jobs."""

    busy = True

    def _step_job(self, job: Body) -> None:
        if self.busy:
            return
        if "startTime" not in job.get("status", {}):
            self.cluster.put({**job, "status": {"startTime": stamp(self.now)}})
            return
        super()._step_job(job)

    def let_go(self) -> None:
        """It comes to them."""
        self.busy = False


class OverQuota(NotBegun):
    """The namespace admits no pod more."""

    def _step_job(self, job: Body) -> None:
        if self.busy and "startTime" not in job.get("status", {}):
            self.cluster.put({**job, "status": {"startTime": stamp(self.now)}})
            about = {"kind": "Job", "uid": job["metadata"]["uid"]}
            told = {
                "type": "Warning",
                "reason": "FailedCreate",
                "message": QUOTA,
                "involvedObject": about,
                "lastTimestamp": stamp(self.now),
            }
            self.cluster.create({"kind": "CoreEvent", "metadata": {"name": "quota", "namespace": KEY.namespace}, **told})
            return
        super()._step_job(job)


def going(stage: str, run: int) -> None:
    """No pod ends."""


def waits(kind: type[World], **spec: Any) -> Callable[[], World]:
    """A job of this world."""
    return lambda: kind(spec=MINIMAL | spec, script=going)


def suspended() -> World:
    return World(spec=MINIMAL | {"suspend": True}, script=going)


def queued() -> World:
    return World(spec=QUEUED, script=going, admits=False)


def out_of_money() -> World:
    world = World(spec=ENDPOINT, budget=BUDGET)
    world.gateway.grants = lambda: False
    return world


def without_budget() -> World:
    return World(spec=ENDPOINT, script=going)


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        pytest.param(waits(Held), "Unschedulable", id="unschedulable"),
        pytest.param(waits(Silent), "Waiting", id="a pod that does not say why"),
        pytest.param(waits(NotBegun), "Waiting", id="not begun by the Job controller"),
        pytest.param(waits(OverQuota), "QuotaExceeded", id="over quota"),
        pytest.param(queued, "WaitingForQuota", id="queued"),
        pytest.param(suspended, "Suspended", id="suspended"),
        pytest.param(without_budget, "BudgetMissing", id="without a budget"),
        pytest.param(out_of_money, "BudgetExhausted", id="out of money"),
    ],
)
async def test_waiting_costs_nothing(make: Callable[[], World], reason: str) -> None:
    watching = Watching(make())
    first = await watching.wait(minutes=1)
    status = DistillationJobStatus.model_validate(watching.world.status)
    said = {stage.reason for stage in status.stages} | {condition.reason for condition in status.conditions}
    assert reason in said, "within a minute"
    assert first <= 40
    assert await watching.wait(minutes=4) <= 12, "a look at what has not said why, after 60, 120 and 240 seconds"
    resyncs = watching.resync_calls
    assert await watching.wait(minutes=10) == 0
    assert watching.resync_calls > resyncs


@pytest.mark.parametrize("make", [waits(Held), waits(Silent), waits(NotBegun), waits(OverQuota)])
async def test_it_goes_on_by_itself_as_soon_as_it_can(make: Callable[[], World]) -> None:
    watching = Watching(make())
    await watching.wait(minutes=15)
    assert watching.world.stage("preflight")["state"] == "Waiting"
    watching.world.let_go()  # type: ignore[attr-defined]
    resyncs = watching.resync_calls
    await watching.wait(minutes=0.1)
    assert watching.world.stage("preflight")["state"] == "Running"
    assert watching.resync_calls == resyncs, "an event told it"

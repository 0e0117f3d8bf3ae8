"""What kstatus itself (kubectl, Flux, Helm) makes of our objects: its Go module judges what the operator writes in each state."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from tests.crash.paths import PATHS
from tests.crash.specs import BUDGET
from tests.crash.world import KEY, World
from tests.unit.operator.test_teacher_budget import READY, Looking, snapshot

from distillery.api.budget import TeacherStatus
from distillery.observe import Silence

pytestmark = pytest.mark.slow
MODULE = "sigs.k8s.io/cli-utils@v0.37.2"
Body = dict[str, Any]


@pytest.fixture(scope="module")
def kstatus(tmp_path_factory: pytest.TempPathFactory) -> Callable[[Body], str]:
    """The verdict of kstatus on an object."""
    go = shutil.which("go")
    assert go, "go is not on PATH: kstatus is compiled from its module"
    folder = tmp_path_factory.mktemp("kstatus")
    shutil.copy(Path(__file__).parent / "kstatus.go", folder / "main.go")
    settings = os.environ | {"CGO_ENABLED": "0", "GOFLAGS": "-mod=mod", "GOWORK": "off"}
    for command in (["mod", "init", "kstatus"], ["get", MODULE], ["build", "-o", "kstatus", "."]):
        subprocess.run([go, *command], cwd=folder, env=settings, check=True, timeout=800)

    def verdict(body: Body) -> str:
        done = subprocess.run([folder / "kstatus"], input=json.dumps([body]), capture_output=True, text=True, check=True, timeout=60)
        (found,) = json.loads(done.stdout)
        return str(found)

    return verdict


async def new() -> World:
    return World()


async def without_budget() -> World:
    world = PATHS["endpoint, budget missing"]()
    await world.settle()
    return world


async def running() -> World:
    world = World(script=lambda stage, run: None)
    await world.run(until=lambda: world.stage("preflight").get("state") == "Running")
    return world


async def suspended() -> World:
    world = await running()
    world.edit(suspend=True)
    await world.run(until=lambda: world.condition("Suspended")[0] == "True")
    return world


async def unusable() -> World:
    world = PATHS["invalid, then corrected"]()
    await world.settle()
    return world


async def succeeded() -> World:
    world = World()
    await world.run()
    return world


async def failed() -> World:
    world = PATHS["user's mistake"]()
    await world.run()
    return world


async def edited_after_the_end() -> World:
    world = await succeeded()
    world.edit(suspend=True)
    return world


async def observed_after_the_end() -> World:
    world = await edited_after_the_end()
    await world.settle()
    return world


@pytest.mark.parametrize(
    ("make", "verdict"),
    [
        (new, "InProgress"),
        (without_budget, "InProgress"),
        (running, "Current"),
        (suspended, "Current"),
        (unusable, "Failed"),
        (succeeded, "Current"),
        (failed, "Failed"),
        (edited_after_the_end, "InProgress"),
        (observed_after_the_end, "Current"),
    ],
)
async def test_a_job(kstatus: Callable[[Body], str], make: Callable[[], Awaitable[World]], verdict: str) -> None:
    assert kstatus((await make()).job) == verdict


async def test_a_new_budget_is_in_progress(kstatus: Callable[[Body], str]) -> None:
    world = World(budget=BUDGET)
    assert kstatus({"apiVersion": "distillery.dev/v1alpha1", **world.cluster.get("TeacherBudget", KEY.namespace, "team")}) == "InProgress"


@pytest.mark.parametrize(
    ("told", "verdict"),
    [
        (snapshot(), "Current"),
        (snapshot(exhausted=["daily 2026-01-01: 10.00 USD are used up"]), "Current"),
        (Silence("no answer in time"), "InProgress"),
        (snapshot(read_only="restored from a copy; accept it"), "InProgress"),
        (snapshot(teachers=[READY, TeacherStatus(name="b", ready=False, reason="CredentialMissing", message="create Secret b")]), "Failed"),
        ("spec.limits: none", "Failed"),
    ],
)
def test_a_budget(kstatus: Callable[[Body], str], told: Any, verdict: str) -> None:
    looking = Looking()
    looking.look(told)
    meta = {"name": "team", "namespace": "nlp", "generation": 1}
    status = looking.budget.status.wire()
    assert kstatus({"apiVersion": "distillery.dev/v1alpha1", "kind": "TeacherBudget", "metadata": meta, "status": status}) == verdict

"""A job from its manifest to its model."""

from __future__ import annotations

import pytest
from tests.crash.ends import End
from tests.crash.paths import PATHS
from tests.crash.specs import EXPORTS, MINIMAL
from tests.crash.world import World

from distillery.observe import is_settled


async def test_a_minimal_job_runs_every_stage_and_names_its_model() -> None:
    world = World()
    await world.run()
    assert world.condition("Succeeded") == ("True", "Done")
    assert [(s["name"], s["state"], s["runs"]) for s in world.status["stages"]] == [
        (name, "Succeeded", 1) for name in ("preflight", "traces", "curate", "train", "evaluate", "publish")
    ]
    assert world.status["modelURI"] == "s3://models/tiny/team-a/tiny/model"
    assert world.status["phase"] == "Succeeded"
    assert world.status["progress"] == {"percentage": 100}


async def test_exports_run_in_parallel() -> None:
    world = World(spec=MINIMAL | EXPORTS, script=lambda stage, run: None if stage.startswith("export") else End())
    await world.run(until=lambda: len(world.jobs()) == 7)
    assert {world.stage(f"export-{name}")["state"] for name in ("q4", "web")} == {"Running"}


@pytest.mark.parametrize("path", ["golden", "cancelled", "user's mistake", "endpoint, cancelled"])
async def test_an_edit_after_the_end_is_observed_and_changes_nothing_else(path: str) -> None:
    """Tools that wait would call it in progress for ever; and terminal is terminal."""
    world = PATHS[path]()
    await world.run()
    before = world.status
    world.edit(suspend=True, backoffLimit=7)
    assert not is_settled(world.job)
    world.cluster.calls.clear()
    assert await world.settle() is None
    assert world.status == before | {"observedGeneration": world.job["metadata"]["generation"]}
    assert world.cluster.calls.count("patch_status") == 1
    assert is_settled(world.job)
    world.cluster.calls.clear()
    await world.settle()
    assert set(world.cluster.calls) == {"get_job", "children"}

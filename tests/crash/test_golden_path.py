"""A job from its manifest to its model."""

from __future__ import annotations

from tests.crash.ends import End
from tests.crash.specs import EXPORTS, MINIMAL
from tests.crash.world import World


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

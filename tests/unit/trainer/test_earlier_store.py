"""A store that version 0.1.0 filled (its manifests alone, of `distill run examples/arithmetic/job.yaml`) is reused whole."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

from tests.unit.trainer import tiny

from distillery.api.kinds import PREFLIGHT, PUBLISH
from distillery.api.stages import planned_stages
from distillery.local.load import load_job

ROOT = Path(__file__).parents[3]
STORE = Path(__file__).parent / "store_0_1_0"


def test_no_stage_runs_again(tmp_path: Path) -> None:
    job = load_job(ROOT / "examples/arithmetic/job.yaml", ROOT, tmp_path / "runs")
    for manifest in STORE.glob("*/manifest.json"):
        folder, known = tmp_path / "runs/models/arithmetic/stages" / manifest.parent.name, json.loads(manifest.read_text())
        for file in known["files"]:
            path = folder / known["root"] / file["path"]
            path.parent.mkdir(parents=True, exist_ok=True)
            with path.open("wb") as content:
                # of the right length, which is what is looked at before a stage is called done
                content.truncate(file["sizeBytes"])
        shutil.copy(manifest, folder)
    place = tiny.Place(tmp_path, job.spec.wire())
    assert place.execute(PREFLIGHT) == 0, place.result().message
    again = {stage.name for stage in planned_stages(job.spec)} - set(place.result().reused or ())
    # they are each job's own
    assert again == {PREFLIGHT, PUBLISH}

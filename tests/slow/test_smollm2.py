"""A real instruction-tuned teacher, end to end in a local run: the recipe that examples/smollm2 ships, and SFT on the same traces.

About half an hour on two cores. Downloads the teacher (98 MB) once. DISTILLERY_STORE names a folder that keeps finished stages.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "examples/smollm2"

pytestmark = [pytest.mark.slow, pytest.mark.timeout(3600)]


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = Path(os.environ.get("DISTILLERY_STORE") or tmp_path_factory.mktemp("smollm2"))
    subprocess.run([EXAMPLE / "fetch", folder], check=True, cwd=ROOT)
    return folder


def published(store: Path, job: str) -> Path:
    """The folder that the last run of this job made."""
    latest = json.loads((store / f"models/smollm2/local/{job}/latest.json").read_text())
    return store / f"models/smollm2/local/{job}" / latest["uid"][:8]


@pytest.fixture(scope="module")
def shipped(store: Path) -> Path:
    subprocess.run([sys.executable, "-m", "distillery.local", "run", "--store", store, EXAMPLE / "job.yaml"], check=True, cwd=ROOT)
    return published(store, "smollm2")


@pytest.fixture(scope="module")
def sft(store: Path, shipped: Path) -> Path:
    """Hard labels only, on the traces that the shipped job made."""
    subprocess.run([sys.executable, EXAMPLE / "sweep.py", "--store", store, "--weights", "1"], check=True, cwd=ROOT)
    return published(store, "smollm2-hard-100")


def measured(folder: Path, metric: str) -> dict[str, str]:
    rows = json.loads((folder / "manifest.json").read_text())["evaluation"]["results"]
    return next(row for row in rows if row["metric"] == metric)


def test_the_student_labels_nearly_as_well_as_its_teacher(shipped: Path) -> None:
    row = measured(shipped, "labelAccuracy")
    assert float(row["student"]) >= 0.9 * float(row["teacher"])
    assert float(row["student"]) > float(row["baseline"])


def test_distillation_comes_nearer_to_the_teacher_than_its_text_alone(shipped: Path, sft: Path) -> None:
    assert float(measured(shipped, "teacherKL")["student"]) <= 0.5 * float(measured(sft, "teacherKL")["student"])


def test_teacher_and_text_were_made_once(store: Path, shipped: Path, sft: Path) -> None:
    stages = [path.name.split("-")[0] for path in (store / "models/smollm2/stages").iterdir()]
    assert (stages.count("traces"), stages.count("curate")) == (1, 1)


def test_exports_hold_up_in_llama_cpp(shipped: Path) -> None:
    artifacts = json.loads((shipped / "manifest.json").read_text())["artifacts"]
    assert {artifact["name"]: artifact["passed"] for artifact in artifacts} == {"gguf-f16": True, "gguf-q8": True}
    for artifact in artifacts:
        found = {value["name"]: float(value["value"]) for value in artifact["evaluation"]}
        assert abs(found["labelAccuracy"] - float(measured(shipped, "labelAccuracy")["student"])) <= 0.02

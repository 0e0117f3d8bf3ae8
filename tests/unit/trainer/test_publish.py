"""From traces to the published folder on a tiny student, each stage run as its pod runs it."""

from __future__ import annotations

import json
import signal
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from tests.unit.trainer import tiny
from transformers import AutoModelForCausalLM, AutoTokenizer

from distillery.api.stages import planned_stages
from distillery_trainer.runner import execute
from distillery_trainer.runner.commit import read_manifest
from distillery_trainer.stages import publish
from distillery_trainer.stores import open_store
from distillery_trainer.stores.folder import FolderStore

UID = "0123456789abcdef"
ROWS = [{"id": f"r{i}", "prompt": f"{i} plus 1", "completion": f"{i + 1}", "answer": f"{i + 1}"} for i in range(24)]
EXPORTS = [
    {"name": "f16", "format": "gguf", "quantization": "f16", "gates": [{"metric": "exactMatch", "max": "1"}]},
    {"name": "q4", "format": "gguf", "quantization": "q4_0", "gates": [{"metric": "retention", "min": "0.5"}]},
    {"name": "half", "format": "safetensors", "quantization": "bf16"},
]


def job(root: Path) -> tiny.Place:
    """A job whose stages take seconds."""
    held = [{**row, "id": f"e{row['id']}"} for row in ROWS[:6]]
    spec: dict[str, Any] = {
        "teacher": {"model": {"uri": tiny.save(root / "teacher", tiny.model(), tiny.tokenizer()), "precision": "float32"}},
        "student": {"scratch": {"numHiddenLayers": 1, "hiddenSize": 32, "intermediateSize": 64, "numAttentionHeads": 2}},
        "data": {
            "train": {"uri": tiny.lines(root / "train.jsonl", ROWS), "format": "promptCompletion"},
            "evaluation": {
                "uri": tiny.lines(root / "held.jsonl", held),
                "format": "promptCompletion",
                "answer": {"extract": "([0-9]+)"},
            },
            "curation": {"decontaminate": False},
        },
        "training": {"maxSteps": 4, "globalBatchSize": 8},
        "evaluation": {"generation": {"maxNewTokens": 4, "batchSize": 8}},
        "exports": EXPORTS,
        "output": {"uri": f"file://{root}/out"},
    }
    return tiny.Place(root, spec, uid=UID)


def hashes(place: tiny.Place) -> dict[str, str]:
    """Made-up hashes, by stage."""
    return {s.name: f"{number:064x}" for number, s in enumerate(planned_stages(place.job.spec)[1:])}


def run(place: tiny.Place, kind: str, name: str) -> int:
    """One stage."""
    known = hashes(place)
    return execute.execute(kind, name, known[name], known, {**place.environment, "DISTILLERY_WORK": str(place.root / "work" / name)})


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tiny.Place]:
    """Every stage but publish has run."""
    before = signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)
    place = job(tmp_path_factory.mktemp("job"))
    for planned in planned_stages(place.job.spec)[1:-1]:
        assert run(place, planned.kind, planned.name) == 0, place.result().message
    yield place
    signal.signal(signal.SIGTERM, before[0])
    signal.signal(signal.SIGINT, before[1])


@pytest.fixture(scope="module")
def published(done: tiny.Place) -> Path:
    """The published folder; the first run of publish dies between two files, the second starts again."""
    put, count = FolderStore.put, 0

    def dying(self: FolderStore, source: Path, path: str) -> None:
        nonlocal count
        count += 1
        if count == 3:
            raise OSError(5, "Input/output error")
        put(self, source, path)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(FolderStore, "put", dying)
        assert run(done, "publish", "publish") != 0
    home = done.root / "out/team/job"
    assert not (home / publish.LATEST).exists()
    assert run(done, "publish", "publish") == 0, done.result().message
    return home / UID[:8]


def test_export_is_measured_and_judged(done: tiny.Place) -> None:
    """Metrics are in the manifest; a gate is none of its business; a missed one withholds the artifact and fails nothing."""
    assert run(done, "export", "export-q4") == 0
    result = done.result()
    assert result.adopted
    assert result.artifact is not None
    assert result.artifact.passed is False
    assert result.artifact.message is not None
    assert result.artifact.message.startswith("spec.exports[q4].gates: retention ")
    assert {metric.name for metric in result.artifact.evaluation} >= {"labelAccuracy", "exactMatch", "agreement", "tokensPerSecond"}
    manifest = read_manifest(open_store(done.job.spec.output.uri, "output", {}), f"stages/export-q4-{hashes(done)['export-q4']}")
    assert manifest.result.artifact is not None
    assert manifest.result.artifact.passed is None
    assert {file.path for file in manifest.files} == {"answers.jsonl", "artifact.json", "artifact/model-Q4_0.gguf"}
    assert manifest.lineage["runtime"].startswith("llama.cpp")


def test_agreement_with_itself_is_whole(done: tiny.Place) -> None:
    """The F16 file answers these rows as the student did in the evaluate stage."""
    assert run(done, "export", "export-f16") == 0
    artifact = done.result().artifact
    assert artifact is not None
    assert artifact.passed
    assert {metric.name: metric.value for metric in artifact.evaluation}["agreement"] == "1"


def test_files_are_what_the_manifest_says(published: Path) -> None:
    """sha256 and size of each; what was withheld is not there."""
    manifest = json.loads((published / "manifest.json").read_text())
    listed = {file["path"]: file for file in manifest["files"]}
    found = {str(file.relative_to(published)): file.read_bytes() for file in published.rglob("*") if file.is_file()}
    assert set(found) - {"manifest.json"} == set(listed)
    for path, file in listed.items():
        assert (sha256(found[path]).hexdigest(), len(found[path])) == (file["sha256"], file["sizeBytes"])
    assert "artifacts/f16/model-F16.gguf" in listed
    assert not any(path.startswith("artifacts/q4") for path in listed)
    assert set(manifest["lineage"]["stages"]) == {"traces", "curate", "train", "evaluate", "export-f16", "export-q4", "export-half"}
    assert manifest["lineage"]["data"]["train"]["rows"] == 24


def test_folders_load(published: Path) -> None:
    """The model, and the bf16 artifact, with tokenizer and template."""
    for folder, dtype in ((published / "model", torch.float32), (published / "artifacts/half", torch.bfloat16)):
        assert AutoModelForCausalLM.from_pretrained(folder, dtype="auto").dtype == dtype
        assert AutoTokenizer.from_pretrained(folder).chat_template == tiny.CHATML


def test_card(published: Path, done: tiny.Place) -> None:
    """Front matter that hubs read; lineage; how to run what was published, and why the rest was not."""
    text = (published / "README.md").read_text()
    front = yaml.safe_load(text.split("---\n")[1])
    assert front["library_name"] == "transformers"
    assert front["tags"] == ["distillation", "gguf", "llama", "safetensors"]
    assert {m["name"] for m in front["model-index"][0]["results"][0]["metrics"]} >= {"labelAccuracy", "exactMatch", "teacherKL"}
    assert f"file://{done.root}/teacher" in text
    assert "llama-server -m artifacts/f16/model-F16.gguf" in text
    assert "llama-quantize artifacts/f16/model-F16.gguf" in text
    assert "withheld: spec.exports[q4].gates: retention" in text
    assert "(../manifest.json)" in (published / "model/README.md").read_text()


def test_result_and_latest(published: Path, done: tiny.Place) -> None:
    """What the operator writes into the status; a second run finds its manifest and says the same."""
    first = done.result()
    assert run(done, "publish", "publish") == 0
    again = done.result()
    assert again.adopted
    assert again.model_copy(update={"adopted": False}) == first.model_copy(update={"adopted": False})
    assert again.model_uri == f"file://{published}/model"
    assert again.report_uri == f"file://{published}/manifest.json"
    assert again.evaluation is not None
    assert again.evaluation.passed
    by_name = {artifact.name: artifact for artifact in again.artifacts or []}
    assert by_name["f16"].uri == f"file://{published}/artifacts/f16/model-F16.gguf"
    assert by_name["q4"].uri is None
    assert "withheld: q4" in again.message
    assert json.loads((published.parent / "latest.json").read_text())["modelURI"] == again.model_uri

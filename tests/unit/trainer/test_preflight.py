"""Preflight, run as its pod runs it: what it finds wrong, what it says when all is well."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from tests.unit.trainer import tiny

from distillery.api.stages import planned_stages
from distillery_trainer.checks import sizes

Change = Callable[[Path, dict[str, Any]], None]


def spec_in(tmp_path: Path) -> dict[str, Any]:
    """A job that is well."""
    tiny.save(tmp_path / "teacher", tiny.model(), tiny.tokenizer())
    tiny.lines(tmp_path / "train.jsonl", tiny.PAIRS)
    return tiny.spec(tmp_path, training={"maxSequenceLength": 128})


def preflight(place: tiny.Place) -> int:
    """The exit code."""
    return place.execute("preflight")


def test_hashes_of_every_later_stage_and_a_row_with_its_mask(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """And how large the two models are."""
    caplog.set_level("INFO")
    place = tiny.Place(tmp_path, spec_in(tmp_path))
    assert preflight(place) == 0
    result = place.result()
    assert set(result.hashes or {}) == {s.name for s in planned_stages(place.job.spec)[1:]}
    assert result.reused == []
    assert "7 training and 1 held-out rows" in result.message
    assert {m.name: float(m.value) for m in result.metrics}["studentParameters"] < 100_000
    assert "<|im_start|>assistant" in caplog.text
    assert "loss on" in caplog.text
    assert "spec.teacher.model: 7 rows went through" in caplog.text
    assert not (tmp_path / "out").exists()


def test_what_is_done_is_reused(tmp_path: Path) -> None:
    """Traces of this job, or of another with the same output; an edit of what they depend on makes new ones."""
    spec = spec_in(tmp_path)
    place = tiny.Place(tmp_path, spec)
    assert preflight(place) == 0
    hashes = place.result().hashes or {}
    assert place.execute("traces", hashes["traces"]) == 0
    other = tiny.Place(tmp_path, {**spec, "training": {"maxSequenceLength": 128, "learningRate": "0.01"}}, uid="uid-2")
    assert preflight(other) == 0
    assert other.result().reused == ["traces"]
    assert (other.result().hashes or {})["train"] != hashes["train"]
    tiny.lines(tmp_path / "train.jsonl", [*tiny.PAIRS, {"prompt": "new", "completion": "row"}])
    assert preflight(other) == 0
    assert other.result().reused == []


def test_finished_traces_need_no_teacher(tmp_path: Path) -> None:
    """teacher.traces: rows, tokenizer and configuration come from them."""
    spec = spec_in(tmp_path)
    place = tiny.Place(tmp_path, spec)
    assert preflight(place) == 0
    traced = (place.result().hashes or {})["traces"]
    assert place.execute("traces", traced) == 0
    uri = f"file://{tmp_path}/out/stages/traces-{traced}/manifest.json"
    again: dict[str, Any] = {
        "teacher": {"traces": {"uri": uri}},
        "student": {"scratch": {"numHiddenLayers": 1, "hiddenSize": 32, "intermediateSize": 64, "numAttentionHeads": 2}},
        "output": {"uri": f"file://{tmp_path}/other"},
    }
    other = tiny.Place(tmp_path, again)
    assert preflight(other) == 0, other.result().message
    assert set(other.result().hashes or {}) == {"curate", "train", "evaluate", "publish"}
    assert other.execute("curate", (other.result().hashes or {})["curate"]) == 0
    again["evaluation"] = {"gates": [{"metric": "labelAccuracy", "min": "0.5"}]}
    assert preflight(tiny.Place(tmp_path, again)) == 64
    assert "made without data.evaluation.answer" in other.result().message


def _set(path: str, value: Any) -> Change:
    def change(_: Path, spec: dict[str, Any]) -> None:
        *parents, last = path.split(".")
        for name in parents:
            spec = spec.setdefault(name, {})
        spec[last] = value

    return change


def _rows(*rows: Any) -> Change:
    def change(tmp_path: Path, _: dict[str, Any]) -> None:
        tiny.lines(tmp_path / "train.jsonl", rows)

    return change


def _student(positions: int = 256, **tokens: Any) -> Change:
    def change(tmp_path: Path, spec: dict[str, Any]) -> None:
        made = tiny.model(vocab=tokens.get("size", 320), positions=positions)
        spec["student"] = {"model": {"uri": tiny.save(tmp_path / "student", made, tiny.tokenizer(**tokens))}}

    return change


def _without(name: str) -> Change:
    return lambda tmp_path, _: (tmp_path / "teacher" / name).unlink()


def _damage(make: Callable[[dict[str, torch.Tensor]], dict[str, torch.Tensor]]) -> Change:
    def change(tmp_path: Path, _: dict[str, Any]) -> None:
        file = tmp_path / "teacher/model.safetensors"
        save_file(make(load_file(file)), file, metadata={"format": "pt"})

    return change


def _cut(tmp_path: Path, _: dict[str, Any]) -> None:
    file = tmp_path / "teacher/model.safetensors"
    file.write_bytes(file.read_bytes()[:5000])


def _pickled(tmp_path: Path, _: dict[str, Any]) -> None:
    (tmp_path / "teacher/model.safetensors").rename(tmp_path / "teacher/pytorch_model.bin")


def _config(**fields: Any) -> Change:
    def change(tmp_path: Path, _: dict[str, Any]) -> None:
        file = tmp_path / "teacher/config.json"
        file.write_text(json.dumps({**json.loads(file.read_text()), **fields}))

    return change


def _gpt2(tmp_path: Path, spec: dict[str, Any]) -> None:
    tiny.save(tmp_path / "teacher", tiny.model("gpt2"), tiny.tokenizer())
    spec["exports"] = [{"name": "q4", "format": "gguf", "quantization": "q4_0"}]


def _long(tmp_path: Path, spec: dict[str, Any]) -> None:
    tiny.lines(tmp_path / "train.jsonl", [*tiny.PAIRS, {"prompt": "x " * 300, "completion": "y"}])
    spec["data"]["overflow"] = "fail"


SCRATCH = {"numHiddenLayers": 1, "hiddenSize": 32, "intermediateSize": 64, "numAttentionHeads": 2}
HELD = {"uri": "file:///dev/null/none.jsonl", "format": "promptCompletion"}
WRONG: dict[str, tuple[Change, str, str]] = {
    "rows are not there": (_set("data.train.uri", "file:///nowhere/rows.jsonl"), "NotFound", "spec.data.train.uri 'file:///nowhere"),
    "row is broken": (_rows({"prompt": "x"}), "RowsInvalid", "train.jsonl line 1: field 'completion' is missing"),
    "one row": (_rows(tiny.PAIRS[0]), "RowsInvalid", "1 usable rows; at least 2 are needed"),
    "held-out rows are not there": (_set("data.evaluation", HELD), "NotFound", "spec.data.evaluation.uri"),
    "all rows too long": (_set("training.maxSequenceLength", 8), "RowsInvalid", "raise training.maxSequenceLength"),
    "long row and overflow fail": (_long, "RowsInvalid", "train.jsonl line 9:"),
    "teacher is not there": (_set("teacher.model.uri", "file:///nowhere/model"), "NotFound", "spec.teacher.model.uri 'file:///nowhere"),
    "teacher has no weights": (_without("model.safetensors"), "ModelUnreadable", "holds no model.safetensors"),
    "teacher has no config": (_without("config.json"), "ModelUnreadable", "holds no config.json"),
    "teacher has no tokenizer": (_without("tokenizer.json"), "ModelUnreadable", "the tokenizer cannot be read"),
    "teacher is pickled": (_pickled, "ModelUnreadable", "pickled weights are not read; save the model again"),
    "teacher is cut": (_cut, "ModelUnreadable", "the weights cannot be read"),
    "weights are missing": (
        _damage(lambda w: {k: v for k, v in w.items() if "layers.1.mlp.up" not in k}),
        "ModelUnreadable",
        "1 weights are missing, first model.layers.1.mlp.up_proj.weight",
    ),
    "weights are NaN": (_damage(lambda w: {k: v * float("nan") for k, v in w.items()}), "ModelUnreadable", "NaN"),
    "unknown architecture": (_config(model_type="hyena9"), "ModelUnreadable", "hyena9"),
    "tokenizers differ": (_student(size=300), "TokenizerMismatch", "use a student of the teacher's family"),
    "template ends otherwise": (
        _student(template="{% for m in messages %}{{ m['content'] + '<|endoftext|>' }}{% endfor %}"),
        "TokenizerMismatch",
        "data.chatTemplate: 'auto' ends an answer with '<|endoftext|>', the teacher ends it with '<|im_end|>'",
    ),
    "layer out of range": (_set("student", {"fromTeacher": {"layerIndices": [0, 2]}}), "BadInput", "numbered 0 to 1; 2 is none"),
    "too many layers": (_set("student", {"fromTeacher": {"numHiddenLayers": 3}}), "BadInput", "3 is more than the teacher's 2"),
    "student sees too little": (
        _student(positions=64),
        "DoesNotFit",
        "lower training.maxSequenceLength to 64",
    ),
    "tokenizer would change when published": (_set("student", {"scratch": {**SCRATCH, "architecture": "qwen2"}}), "Unsupported", "qwen2"),
    "family has no GGUF": (
        _gpt2,
        "Unsupported",
        "spec.exports[q4]: format gguf: model type 'gpt2'",
    ),
    "memory is too small": (
        _set("scheduling.stages.train.resources.limits", {"memory": "64Mi"}),
        "DoesNotFit",
        "spec.scheduling.stages.train.resources.limits.memory: 0.06 GiB is less than",
    ),
    "scratch space is too small": (
        _set("scheduling.stages.traces.resources.limits", {"ephemeral-storage": "100Ki"}),
        "DoesNotFit",
        "spec.scheduling.stages.traces.resources.limits.ephemeral-storage",
    ),
}


@pytest.mark.parametrize("name", WRONG)
def test_users_mistakes_are_told_with_field_and_remedy(tmp_path: Path, name: str) -> None:
    """Exit 64: nothing is retried."""
    change, reason, told = WRONG[name]
    spec = spec_in(tmp_path)
    change(tmp_path, spec)
    place = tiny.Place(tmp_path, spec)
    assert preflight(place) == 64, place.result().message
    assert place.result().reason == reason, place.result().message
    assert told in place.result().message


def test_a_word_border_that_would_find_no_true_answer_is_told(tmp_path: Path) -> None:
    """RE2 sees it between ASCII letters alone; accuracy 0 would be all that one sees of that."""
    spec = spec_in(tmp_path)
    rows = [{"prompt": f"{n}?", "completion": "да", "answer": "да"} for n in range(4)]
    (tmp_path / "held.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    answer = {"extract": r"\b(\w+)\b"}
    spec["data"]["evaluation"] = {"uri": f"file://{tmp_path}/held.jsonl", "format": "promptCompletion", "answer": answer}
    place = tiny.Place(tmp_path, spec)
    assert preflight(place) == 64
    assert r"\b in it sees ASCII letters alone, and 'да' is a true answer" in place.result().message


@pytest.mark.parametrize(
    ("text", "number"), [("1.5Gi", 1.5 * 2**30), ("500m", 0.5), ("2", 2.0), (3, 3.0), ("64Mi", 64 * 2**20), ("1G", 1e9)]
)
def test_quantities(text: str | int, number: float) -> None:
    """As Kubernetes writes them."""
    assert sizes.quantity(text) == number

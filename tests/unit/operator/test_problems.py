"""What is wrong with an object, in one sentence each."""

from __future__ import annotations

import datetime
from typing import Any

import pytest
from pydantic import ValidationError

from distillery.api.job import DistillationJobSpec
from distillery.api.problems import problems

SPEC: dict[str, Any] = {
    "teacher": {"model": {"uri": "hf://org/teacher"}},
    "student": {"fromTeacher": {"numHiddenLayers": 2}},
    "data": {"train": {"uri": "s3://rows/train.jsonl"}},
    "output": {"uri": "s3://models/out"},
}


def told(path: str, value: Any, values: bool = True) -> list[str]:
    """The problems of the spec with one value changed."""
    *parents, last = path.split(".")
    spec: dict[str, Any] = {**SPEC}
    inside = spec
    for name in parents:
        inside[name] = {**inside.get(name, {})}
        inside = inside[name]
    inside[last] = value
    with pytest.raises(ValidationError) as refused:
        DistillationJobSpec.model_validate(spec)
    return problems(refused.value, "spec", values)


LIMITS = "scheduling.stages.train.resources.limits"


@pytest.mark.parametrize(
    ("path", "value", "sentence"),
    [
        ("training.learningRate", 0.5, "spec.training.learningRate: is 0.5, which is no text; put it in quotes"),
        ("training.learningRate", None, "spec.training.learningRate: is null; it must be text"),
        (
            "training.learningRate", "fast",
            'spec.training.learningRate: must be a decimal above 0, in quotes, for example "0.0003" (it is "fast")',
        ),
        ("training.maxSteps", "200", 'spec.training.maxSteps: is "200"; it must be a whole number, without quotes'),
        ("training.maxSteps", 1.5, "spec.training.maxSteps: is 1.5; it must be a whole number"),
        ("training.maxSteps", 0, "spec.training.maxSteps: is 0; it must be at least 1"),
        ("training.maxSteps", 10**8, "spec.training.maxSteps: is 100000000; it must be at most 10000000"),
        ("training.lerningRate", "1", "spec.training.lerningRate: is no field of this object; correct its name or remove it"),
        ("training", [], "spec.training: is a list; it must be an object"),
        ("suspend", "yes", 'spec.suspend: is "yes"; it must be true or false, without quotes'),
        ("exports", {}, "spec.exports: is an object; it must be a list"),
        ("exports", [{"name": "a", "format": "gguf", "quantization": "q9"}], None),
        ("data.train.format", "csv", "spec.data.train.format: is \"csv\"; it must be 'messages', 'prompt' or 'promptCompletion'"),
        ("data.train.split", "", "spec.data.train.split: has 0 characters; it must have at least 1"),
        ("data.train.split", "x" * 64, "spec.data.train.split: has 64 characters; it must have at most 63"),
        ("data.train.split", datetime.date(2026, 1, 31), "spec.data.train.split: is 2026-01-31, which is no text; put it in quotes"),
        ("data.train.uri", "ftp://" + "x" * 400, None),
        ("data.evaluation", {}, "spec.data.evaluation.uri: is missing; add it"),
        ("output", {}, "spec.output.uri: is missing; add it"),
        ("student.scratch", {"hiddenSize": 33}, None),
        (LIMITS, {"memory": {}}, f"spec.{LIMITS}.memory: is an object; it must be text or a whole number"),
        (LIMITS, {"memory": 1.5}, f"spec.{LIMITS}.memory: is 1.5; it must be text or a whole number"),
        (LIMITS, {5: "1"}, f"spec.{LIMITS}[5]: the key is 5, which is no text; put it in quotes"),
    ],
)  # fmt: skip
def test_a_fault_is_one_sentence(path: str, value: Any, sentence: str | None) -> None:
    found = told(path, value)
    if sentence is not None:
        assert found == [sentence]
    text = " ".join(found)
    assert "Input" not in text
    assert "default factory" not in text
    assert all(len(line) < 400 for line in found)


def test_two_faults_are_two_sentences() -> None:
    assert told("data.train", {"uri": 3, "format": "csv"}) == [
        "spec.data.train.uri: is 3, which is no text; put it in quotes",
        "spec.data.train.format: is \"csv\"; it must be 'messages', 'prompt' or 'promptCompletion'",
    ]


def test_values_can_be_masked() -> None:
    """A file of credentials may hold a key where a name is asked for."""
    assert "fast" not in told("training.learningRate", "fast", values=False)[0]
    assert told("training.maxSteps", "200", values=False) == ['spec.training.maxSteps: is "***"; it must be a whole number, without quotes']

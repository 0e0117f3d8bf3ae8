"""What hubs read of a published model: its own base alone, its teacher by name, and a licence that hides no obligation."""

from __future__ import annotations

from typing import Any

import pytest
import yaml
from huggingface_hub import ModelCardData

from distillery_trainer.publishing.front_matter import front_matter

OPEN = {"uri": "hf://org/teacher@abc", "license": "apache-2.0"}
API = {"kind": "endpoint", "model": "big-1", "baseURL": "https://api.example.com/v1", "terms": ["example-2026"], "url": "https://e.com/t"}
MODEL = {"uri": "hf://org/base", "modelType": "llama", "license": "mit", "origin": {"model": {"uri": "hf://org/base"}}}


def front(teacher: dict[str, Any], student: dict[str, Any], train: str = "s3://b/rows.jsonl") -> dict[str, Any]:
    """Read back as hubs do."""
    results = [{"metric": "labelAccuracy", "student": "0.9"}, {"metric": "retention", "student": "0.95"}, {"metric": "teacherKL"}]
    artifacts = [{"format": "gguf", "passed": True}, {"format": "onnx", "passed": False}]
    lineage = {"teacher": teacher, "student": student, "data": {"train": {"uri": train}, "heldOut": {"uri": "s3://b/held.jsonl"}}}
    text = front_matter({"job": {"name": "mine"}, "lineage": lineage, "artifacts": artifacts, "evaluation": {"results": results}})
    found: dict[str, Any] = yaml.safe_load(text)
    assert ModelCardData(**found).to_dict() == found  # the hub's own client takes it as it is
    return found


@pytest.mark.parametrize(
    ("teacher", "student", "base", "licence"),
    [
        (OPEN, MODEL, "org/base", "mit"),
        (OPEN, {"modelType": "llama", "origin": {"fromTeacher": {}}}, "org/teacher", "apache-2.0"),
        (OPEN, {"modelType": "llama", "origin": {"scratch": {}}}, None, "apache-2.0"),
        ({"uri": "s3://b/teacher"}, {"modelType": "llama", "origin": {"fromTeacher": {}}}, None, None),
        (API, MODEL, "org/base", "mit"),
    ],
    ids=["model", "layers", "scratch", "bucket", "endpoint"],
)
def test_the_base_is_the_students_alone(teacher: dict[str, Any], student: dict[str, Any], base: str | None, licence: str | None) -> None:
    """A model page would else be listed as a finetune of its teacher."""
    found = front(teacher, student)
    assert found.get("base_model") == base
    assert found.get("base_model_relation") == ("finetune" if base else None)
    assert found.get("license") == licence


def test_the_teacher_is_a_tag() -> None:
    assert front(OPEN, MODEL)["tags"] == ["distillation", "gguf", "llama", "teacher:org/teacher"]
    assert "teacher:big-1" in front(API, MODEL)["tags"]


def test_obligations_are_no_plain_licence() -> None:
    """`mit` would tell a reader that nothing else binds."""
    bound = {**API, "obligations": [{"type": "flowDown", "value": "Use Policy"}], "terms": ["Example 2026", "llama-3.3"]}
    found = front(bound, MODEL)
    assert (found["license"], found["license_name"], found["license_link"]) == ("other", "example-2026-and-llama-3.3", "https://e.com/t")
    assert front({**bound, "url": None}, MODEL)["license_link"] == "#terms-of-the-teacher"


def test_a_base_of_another_licence_says_where_its_text_is() -> None:
    found = front(OPEN, {**MODEL, "license": "other"})
    assert (found["license_name"], found["license_link"]) == ("as-its-base-model", "https://huggingface.co/org/base")


def test_results_and_data_sets() -> None:
    found = front(OPEN, MODEL, "hf://org/rows@main/train.jsonl")
    metrics = found["model-index"][0]["results"][0]["metrics"]
    assert [(m["type"], m["name"], m["value"]) for m in metrics] == [("accuracy", "labelAccuracy", 0.9), ("retention", "retention", 0.95)]
    assert found["datasets"] == ["org/rows"]
    assert "datasets" not in front(OPEN, MODEL)

"""What the model card says of the terms of a teacher behind an API."""

from __future__ import annotations

from typing import Any

import pytest

from distillery_trainer.data.traces import TeacherRecord, UsageRecord
from distillery_trainer.publishing.teacher_terms import published_name, teacher_name, terms_section

ENDPOINT: dict[str, Any] = {
    "kind": "endpoint", "model": "big-1", "baseURL": "https://api.example.com/v1", "terms": ["example-2026"], "verdict": "permit",
    "clause": "3.3", "url": "https://example.com/terms", "obligations": [], "approval": None,
}  # fmt: skip
USAGE = UsageRecord(requests=3, cache_hits=2, cost="0.12", models=["big-1-x"])


def record(teacher: dict[str, Any]) -> TeacherRecord:
    """As it is read from a manifest."""
    return TeacherRecord.model_validate(teacher)


def manifest(teacher: dict[str, Any], use: dict[str, Any] | None = None) -> dict[str, Any]:
    """As much of a published manifest as names are made of."""
    return {"job": {"name": "arith"}, "lineage": {"teacher": teacher, "declaredUse": use}}


@pytest.mark.parametrize(
    ("duty", "told"),
    [
        ({"type": "namePrefix", "value": "Llama"}, "- a model that is distributed must have a name that begins with `Llama`"),
        ({"type": "display", "value": "Built with Qwen"}, '- show "Built with Qwen" wherever the model is offered'),
        ({"type": "file", "value": "the agreement"}, "- hand on a copy of the agreement"),
        ({"type": "flowDown", "value": "its use policy"}, "- bind those who receive the model to its use policy"),
        ({"type": "nonCommercial"}, "- no commercial use"),
        ({"type": "somethingNew", "value": "x"}, "- somethingNew x"),
    ],
    ids=lambda value: value["type"] if isinstance(value, dict) else "",
)
def test_obligations_are_written_out(duty: dict[str, str], told: str) -> None:
    section = terms_section(record({**ENDPOINT, "obligations": [duty]}), USAGE)
    assert told in section.splitlines()
    assert ("**Built with Qwen**" in section.splitlines()) == (duty["type"] == "display")


def test_terms_approval_and_cost() -> None:
    section = terms_section(record({**ENDPOINT, "approval": "LEGAL-7"}), USAGE)
    assert (
        "under the terms `example-2026`, 3.3 (https://example.com/terms); the declared use was judged `permit` with approval `LEGAL-7`."
        in section
    )
    assert "The teacher was asked 3 times for $0.12; 2 more were bought before. The API called the model `big-1-x`." in section
    assert "oblige" not in section


@pytest.mark.parametrize(
    ("prefix", "use", "name"),
    [
        (None, None, "arith"),
        ("Llama", None, "Llama-arith"),
        ("Llama", {"studentName": "llama-mine"}, "llama-mine"),
        (None, {"studentName": "mine"}, "mine"),
    ],
)
def test_the_name_on_the_card(prefix: str | None, use: dict[str, Any] | None, name: str) -> None:
    duties = [{"type": "namePrefix", "value": prefix}] if prefix else []
    assert published_name(manifest({**ENDPOINT, "obligations": duties}, use)) == name


def test_a_teacher_whose_weights_were_loaded_has_no_such_section() -> None:
    assert terms_section(record({"uri": "hf://org/big"}), None) == ""
    assert teacher_name(record({"uri": "hf://org/big"})) == "`hf://org/big`"
    assert teacher_name(record({})) == "`recorded traces`"
    assert published_name(manifest({"uri": "hf://org/big"})) == "arith"

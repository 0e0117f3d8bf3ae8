"""Gates of artifacts, and the floor of those that have none."""

from __future__ import annotations

import pytest

from distillery.api.measure import Export
from distillery.api.result import StageResult
from distillery_trainer.measure.gates import judged
from distillery_trainer.runner.manifest import Creator, Manifest


@pytest.mark.parametrize(
    ("agreement", "gates", "passed"),
    [
        (0.49, [], False),
        (0.5, [], True),
        (0.49, [{"metric": "exactMatch", "min": "0"}], False),
        (0.49, [{"metric": "agreement", "min": "0.2"}], True),
        (0.1, [{"metric": "agreement", "min": "0.2"}], False),
    ],
)
def test_an_artifact_that_answers_otherwise_is_withheld_unless_a_gate_allows_it(
    agreement: float, gates: list[dict[str, str]], passed: bool
) -> None:
    export = Export.model_validate({"name": "q4", "format": "gguf", "quantization": "q4_0", "gates": gates})
    metrics = {"agreement": agreement, "exactMatch": 0.9}
    creator = Creator(namespace="team", job="job", uid="uid-1")
    manifest = Manifest(
        stage="export-q4", hash="a" * 64, format=1, root="work", files=(), created_by=creator, result=StageResult(), metrics=metrics
    )
    artifact = judged(manifest, export)
    assert artifact.passed is passed
    if not gates:
        assert passed or "spec.exports[q4]: it answers 0.49 of the held-out rows as the student did" in (artifact.message or "")

"""The evaluate stage, run as its pod runs it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from tests.unit.trainer.pipeline import TRAINING, copied, execute, finished, specification, succeed, trace

from distillery.api.measure import EvaluationResult

GENERATION = {"maxNewTokens": 6, "batchSize": 4}


def evaluated(root: Path, answer: bool, **evaluation: Any) -> dict[str, Any]:
    """A job with held-out rows, with or without true answers."""
    rows: dict[str, Any] = {"uri": f"file://{root}/heldout.jsonl", "format": "promptCompletion"}
    if answer:
        rows["answer"] = {"field": "answer", "extract": r"^(\w+)"}
    data = {"train": {"uri": f"file://{root}/train.jsonl", "format": "promptCompletion"}, "evaluation": rows}
    training = {**TRAINING, "maxSteps": 60}
    # the teacher is random, so what brings the student near it takes it away from the text: one of the two is asked for
    method = {"rounds": [{"objectives": [{"response": {"temperature": "1", "weight": "1"}}]}]}
    return specification(root, data=data, method=method, training=training, evaluation={"generation": GENERATION, **evaluation})


@pytest.fixture(scope="module", params=[True, False], ids=["answers", "texts"])
def trained(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, bool]:
    """A folder whose train stage is done; whether its held-out rows have true answers."""
    root = tmp_path_factory.mktemp("trained")
    trace(root, **{name: value for name, value in evaluated(root, request.param).items() if name != "teacher"})
    succeed(root, "train", evaluated(root, request.param))
    return root, request.param


def test_the_table_holds_teacher_student_and_baseline(trained: tuple[Path, bool], tmp_path: Path) -> None:
    root, answers = copied(trained[0], tmp_path), trained[1]
    manifest, files = succeed(root, "evaluate", evaluated(root, answers))
    found = EvaluationResult.model_validate_json((files / "evaluation.json").read_text())
    rows = {row.metric: row for row in found.results}
    wanted = ["exactMatch", *(["labelAccuracy"] if answers else []), "teacherKL", "top1Agreement", "perplexity"]
    assert [metric for metric in rows if metric != "retention"] == wanted
    student, baseline = rows["teacherKL"].student, rows["teacherKL"].baseline
    assert student is not None
    assert baseline is not None
    assert float(student) < float(baseline)
    assert found.rows == 6
    assert found.compression is not None
    assert found.teacher_parameters is not None
    assert found.student_parameters is not None
    assert float(found.compression) == pytest.approx(found.teacher_parameters / found.student_parameters, abs=1e-4)
    assert manifest.result.evaluation == found


def test_the_students_answers_are_left_for_the_exports(trained: tuple[Path, bool], tmp_path: Path) -> None:
    root = copied(trained[0], tmp_path)
    _, files = succeed(root, "evaluate", evaluated(root, trained[1]))
    answers = [json.loads(line) for line in (files / "answers.jsonl").read_text().splitlines()]
    held = [json.loads(line) for line in (finished(root, "traces")[1] / "heldout.jsonl").read_text().splitlines()]
    assert [answer["id"] for answer in answers] == [line["id"] for line in held]
    assert all(isinstance(answer["answer"], str) for answer in answers)


def test_no_more_than_max_rows_are_used(trained: tuple[Path, bool], tmp_path: Path) -> None:
    root = copied(trained[0], tmp_path)
    manifest, _ = succeed(root, "evaluate", evaluated(root, trained[1], maxRows=2))
    assert manifest.counts["rows"] == 2


def test_a_missed_gate_keeps_the_result_and_is_looked_at_again(trained: tuple[Path, bool], tmp_path: Path) -> None:
    root, answers = copied(trained[0], tmp_path), trained[1]
    strict, loose = {"metric": "teacherKL", "max": "0.0001"}, {"metric": "teacherKL", "max": "1000"}
    for gate, code, passed in ((strict, 64, False), (strict, 64, False), (loose, 0, True)):
        ended, job = execute(root, "evaluate", evaluated(root, answers, gates=[gate]))
        assert ended == code
        evaluation = job.result().evaluation
        assert evaluation is not None
        assert evaluation.passed is passed
        assert evaluation.results
        if not passed:
            assert job.result().reason == "QualityGateFailed"
            assert "is above max 0.0001" in job.result().message
    assert job.result().adopted

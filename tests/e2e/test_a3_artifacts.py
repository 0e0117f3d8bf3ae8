"""A3: every artifact answers as torch does, in its own runtime. On the arithmetic teacher, or on the model and rows that are named.

A3_MODEL=…/model A3_ROWS=…/rows.jsonl A3_JOB=…/job.yaml A3_TOKENS=32 pytest -m slow tests/e2e/test_a3_artifacts.py

The job says how an answer is found in a text.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import yaml
from tests.bench.artifacts import Report, examine

from distillery.api.data import Answer
from distillery_trainer.data.examples import read_lines

pytestmark = pytest.mark.slow
ARITHMETIC = Path(__file__).parents[2] / "examples/arithmetic"


@pytest.fixture(scope="module")
def report() -> Report:
    model = Path(os.environ.get("A3_MODEL", ARITHMETIC / "teacher"))
    rows = read_lines(Path(os.environ.get("A3_ROWS", ARITHMETIC / "evaluation.jsonl")))
    job = yaml.safe_load(Path(os.environ.get("A3_JOB", ARITHMETIC / "job.yaml")).read_text())
    answer = Answer.model_validate(job["spec"]["data"]["evaluation"]["answer"])
    found = examine(model, rows, answer, max_new_tokens=int(os.environ.get("A3_TOKENS", "16")))
    print(f"\n{found.text()}")
    return found


def test_f16_answers_are_torchs(report: Report) -> None:
    assert report.lines["gguf f16"].same >= 0.99


def test_quantized_accuracy_is_within_two_points(report: Report) -> None:
    """Q8_0 and ONNX int8; Q4_0 is reported, and gated by the job."""
    assert report.rows >= 500
    wanted = report.lines["torch fp32"].accuracy
    assert wanted is not None
    for name in ("gguf q8_0", "onnx int8"):
        found = report.lines[name].accuracy
        assert found is not None
        assert abs(found - wanted) <= 0.02


def test_file_without_the_permutation_fails(report: Report) -> None:
    """The negative control of the first test."""
    assert report.lines["gguf f16, not permuted"].same < 0.5


def test_onnx_logits_are_torchs(report: Report) -> None:
    assert report.onnx_difference < 1e-3
    assert report.lines["onnx fp32"].same >= 0.99


def test_tokens_and_chats_are_the_published_tokenizers(report: Report) -> None:
    """1,000 fuzzed strings, and conversations."""
    assert report.other_tokens == []
    assert report.other_chats == []

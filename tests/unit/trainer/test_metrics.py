"""Metrics as tables: text in, number out."""

from __future__ import annotations

import math

import pytest
import torch
from torch.nn import functional

from distillery.api.data import Answer
from distillery.api.measure import EvaluationResult, EvaluationRow, Gate
from distillery_trainer.measure.gates import check_gates
from distillery_trainer.measure.metrics import TokenSums, decimal, exact_match, label_accuracy, label_in, normalized


@pytest.mark.parametrize(
    ("text", "extract", "label"),
    [
        ("4,2,9", r"(\d)$", "9"),
        ("answer: 7\nanswer: 12", r"answer: (\d+)", "12"),
        ("no number here", r"(\d+)", ""),
        ("the whole text", "(.*)", "the whole text"),
        ("first line\nlast line", "(.*)", "last line"),
        ("", "(.*)", ""),
        ("yes", "(no)|yes", ""),
    ],
)
def test_the_label_is_the_first_group_of_the_last_match(text: str, extract: str, label: str) -> None:
    assert label_in(text, extract) == label


@pytest.mark.parametrize(
    ("text", "steps", "expected"),
    [
        (" Paris. ", ["strip"], "Paris."),
        (" Paris. ", ["lower", "strip", "punctuation"], "paris"),
        (" Paris. ", ["punctuation", "strip"], "Paris"),
        ("A-B", ["punctuation"], "AB"),
        (" x ", [], " x "),
    ],
)
def test_normalization(text: str, steps: list[str], expected: str) -> None:
    assert normalized(text, steps) == expected


def test_label_accuracy_normalizes_both_sides() -> None:
    how = Answer(extract=r"is (\w+\.?)", normalize=["lower", "punctuation", "strip"])
    assert label_accuracy(["it is Paris.", "it is rome", "none"], ["paris", "PARIS", "x"], how) == pytest.approx(1 / 3)


def test_exact_match_ignores_white_space_at_the_ends_only() -> None:
    assert exact_match([" a b\n", "a  b", "c"], ["a b", "a b", "d"]) == pytest.approx(1 / 3)


def test_token_sums_are_those_of_the_formulas_whatever_the_chunks() -> None:
    student, teacher, targets = torch.randn(9, 7), torch.randn(9, 7), torch.randint(7, (9,))
    sums = TokenSums()
    for part in (slice(0, 4), slice(4, 9)):
        sums.add(student[part], teacher[part], targets[part])
    kl = functional.kl_div(student.log_softmax(-1), teacher.log_softmax(-1), log_target=True, reduction="sum")
    assert sums.tokens == 9
    assert sums.mean_kl() == pytest.approx(float(kl) / 9, rel=1e-5)
    assert sums.agreement() == pytest.approx(float((student.argmax(-1) == teacher.argmax(-1)).float().mean()))
    assert sums.perplexity(sums.student_nll) == pytest.approx(math.exp(functional.cross_entropy(student, targets)), rel=1e-5)
    assert sums.perplexity(sums.teacher_nll) == pytest.approx(math.exp(functional.cross_entropy(teacher, targets)), rel=1e-5)


def test_a_teacher_agrees_with_itself() -> None:
    logits, sums = torch.randn(5, 6), TokenSums()
    sums.add(logits, logits, torch.zeros(5, dtype=torch.long))
    assert sums.mean_kl() == pytest.approx(0.0, abs=1e-7)
    assert sums.agreement() == 1.0


@pytest.mark.parametrize(("value", "text"), [(1.0, "1"), (0.95238, "0.9524"), (0.0, "0"), (123456.789, "123456.789"), (math.inf, "inf")])
def test_decimals_are_short_and_have_no_exponent(value: float, text: str) -> None:
    assert decimal(value) == text


RESULT = EvaluationResult(
    results=[EvaluationRow(metric="retention", student="0.9", baseline="0.1"), EvaluationRow(metric="teacherKL", student="0.2")]
)


@pytest.mark.parametrize(
    ("gates", "misses"),
    [
        ([], []),
        ([Gate(metric="retention", min="0.9")], []),
        ([Gate(metric="retention", min="0.95")], ["retention 0.9 is below min 0.95"]),
        ([Gate(metric="teacherKL", max="0.1")], ["teacherKL 0.2 is above max 0.1"]),
        ([Gate(metric="teacherKL", min="0.1", max="0.3")], []),
        ([Gate(metric="labelAccuracy", min="0")], ["labelAccuracy was not measured (retention needs a teacher with a score above 0)"]),
    ],
)
def test_gates_are_told_with_both_numbers(gates: list[Gate], misses: list[str]) -> None:
    assert check_gates(RESULT, gates) == misses

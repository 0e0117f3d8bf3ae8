"""Expressions of users: they mean what Python's mean, take linear time, and are refused where they cannot."""

from __future__ import annotations

import re
import time
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import ValidationError

from distillery.api.data import Answer
from distillery.api.problems import problems
from distillery_trainer.errors import StageError
from distillery_trainer.measure.metrics import answer_of, label_in

ROOT = Path(__file__).parents[2]
EXAMPLES = sorted(
    {
        job["spec"]["data"]["evaluation"]["answer"]["extract"]
        for path in ROOT.glob("examples/**/*.yaml")
        for job in yaml.safe_load_all(path.read_text())
        if job.get("kind") == "DistillationJob" and "answer" in job["spec"].get("data", {}).get("evaluation", {})
    }
)
PATTERNS = [
    *EXAMPLES, "(.*)", r"^(\w+)", r"([0-9]+)", r"is (\w+\.?)", r"(\d+)\s*$", r"(?i)answer:\s*(\S+)", r"(?m)^(\w+)$", r"(?s)(.*)$", r"(\D+)",
    r"(\W+)", r"[^\s]+ ([^\d]+)", r"([\w-]+)\Z", r"\$([\d.,]+)", r"([$€])", r"(a{,2})b", r"(?P<label>yes|no)", r"([]\w]+)", r"([[(]\d)",
    r"(é+|да|нет)", r"(\u00e9)", r"([\u0400-\u04FF]+)", r"\A(.)", r"(\x41)", r"(?:x|(y))",
]  # fmt: skip
TEXTS = [
    "", "5", "12\n", "12\n\n", "intent: book_flight.", "The answer is 42.", "Answer:  Café", "yes", "no\nyes", "line one\nline two",
    "$1,234.50", "5 €", "да, конечно", "нет", "naïve coöperation", "日本語 テスト", "٣ ٤", "a\u00a0b", "aab", "[7] (8", "A", "xyx",
    "I love Paris, not Rome", "\u00b2 x",
]  # fmt: skip


def as_python_finds(text: str, extract: str) -> str:
    """What Python's own engine finds."""
    return next((label for label in reversed([found.group(1) or "" for found in re.finditer(extract, text)]) if label), "")


@pytest.mark.parametrize("pattern", PATTERNS)
def test_an_expression_finds_what_pythons_engine_finds(pattern: str) -> None:
    """Every expression of the examples, and of what users write, in any script."""
    Answer(extract=pattern)
    assert {text: label_in(text, pattern) for text in TEXTS} == {text: as_python_finds(text, pattern) for text in TEXTS}


@pytest.mark.parametrize("pattern", [r"^(a+)+$", r"(a|a)*b", r"(.*.*.*.*)=", r"((\w+\s?)*)!$"])
def test_no_expression_holds_a_process(pattern: str) -> None:
    """Python's engine takes seconds at 26 letters, and twice as long for each one more."""
    began = time.process_time()
    label_in("a" * 20_000, pattern)
    assert time.process_time() - began < 2


@pytest.mark.parametrize(
    ("pattern", "told"),
    [
        (r"(?<=answer: )(\w+)", "must not look ahead or behind"),
        (r"(\w+)(?!x)", "must not look ahead or behind"),
        (r"(\w)\1", "must not repeat what a group has found"),
        (r"(?P<a>x)(?P=a)", "must not look ahead or behind"),
        (r"\b(да|нет)\b", r"must not hold \b beside letters other than ASCII's"),
        (r"(a*+)", r"is no regular expression of RE2 (bad repetition operator: *+); correct it"),
        ("(", "is no regular expression of RE2 (missing ): (); correct it"),
        ("yes|no", "has no group; put the answer's part in parentheses"),
        (r"(\pL{900})(\pL{900})(\pL{900})", "is no regular expression of RE2 (pattern too large - compile failed); correct it"),
    ],
)
def test_what_cannot_be_linear_is_refused(pattern: str, told: str) -> None:
    """With the field and the remedy."""
    with pytest.raises(ValidationError) as caught:
        Answer.model_validate({"extract": pattern})
    assert problems(caught.value, "spec.data.evaluation.answer")[0].startswith(f"spec.data.evaluation.answer.extract: {told}")


@pytest.mark.parametrize("pattern", [r"(\\1)", r"(\\\\2)", r"(\(\?)", r"\b(yes|no)\b"])
def test_what_only_looks_like_it_is_taken(pattern: str) -> None:
    """A backslash that is itself escaped."""
    assert Answer(extract=pattern).extract == pattern


def test_half_a_surrogate_pair_in_a_text_is_no_error() -> None:
    """JSON can spell one."""
    assert label_in("\ud800 5", r"(\d)") == "5"


def test_traces_of_an_older_expression_say_what_to_do() -> None:
    """They were made before it was refused."""
    wire: dict[str, Any] = {"field": "answer", "extract": "(?=x)(x)"}
    with pytest.raises(StageError, match=r"spec\.teacher\.traces: these traces were made with an answer\.extract: must not look ahead"):
        answer_of(wire)
    assert answer_of(None) is None

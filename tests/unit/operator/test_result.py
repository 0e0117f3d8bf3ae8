"""A stage result fits into a termination message, whatever it says, and is understood."""

import json

import pytest
from tests.unit.operator.objects import COUNTED

from distillery.api.measure import MetricValue
from distillery.api.result import LIMIT_BYTES, MOST_STAGES, StageResult, parse_result

#: The longest that a stage may be called.
NAMES = [f"{number:02}-".ljust(63, "x") for number in range(MOST_STAGES)]
HASHES = {name: f"{2**256 - 1 - number:064x}" for number, name in enumerate(NAMES)}
METRICS = [*COUNTED, *(MetricValue(name=f"{name}Parameters", value="1.23457e+11") for name in ("teacher", "student", "signal", "x"))]


@pytest.mark.parametrize("reused", [[], NAMES[::2], NAMES], ids=["none", "half", "all"])
def test_as_many_stages_as_a_job_may_have_fit_with_their_message(reused: list[str]) -> None:
    """By name and in hex, 40 stages alone take 5,400 bytes."""
    said = StageResult(message="m" * 1024, hashes=HASHES, reused=reused, metrics=METRICS)
    told = said.trimmed()
    assert len(told) <= LIMIT_BYTES
    found = parse_result(told.decode())
    assert found is not None
    assert found.named(NAMES) == said


@pytest.mark.parametrize("letter", ["ä", "\U0001f511", "\x01"], ids=["two bytes", "four bytes", "escaped"])
def test_a_message_of_many_bytes_is_cut_before_what_a_budget_is_asked_by(letter: str) -> None:
    told = StageResult(message=letter * 1024, hashes=HASHES, reused=NAMES, metrics=METRICS).trimmed()
    assert len(told) <= LIMIT_BYTES
    found = parse_result(told.decode())
    assert found is not None
    assert found.message.startswith(letter * 200)
    assert found.metrics == METRICS
    assert found.named(NAMES).hashes == HASHES


def test_a_few_stages_are_told_by_name() -> None:
    """So anybody can read them, and any version of the operator."""
    said = StageResult(hashes=dict(list(HASHES.items())[:7]), reused=NAMES[:2])
    assert "byPosition" not in json.loads(said.trimmed())
    assert said.named(["other"]) == said


def test_other_stages_than_those_that_were_meant_get_no_hash() -> None:
    found = parse_result(StageResult(message="m" * 1024, hashes=HASHES, reused=NAMES).trimmed().decode())
    assert found is not None
    assert found.named(NAMES[1:]).hashes == {}


def test_more_stages_than_a_job_may_have_are_refused() -> None:
    assert parse_result(json.dumps({"hashes": {**HASHES, "more": "a" * 64}})) is None

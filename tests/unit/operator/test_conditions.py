"""Conditions as metav1 has them."""

from __future__ import annotations

from datetime import timedelta

import pytest
from tests.unit.operator.objects import NOW

from distillery.api import reasons
from distillery.api.status import StageStatus
from distillery.conditions import Verdict, clip, milestone, updated
from distillery.timestamps import stamp


def test_all_are_there_from_the_first_pass() -> None:
    found = updated([], {}, 3, NOW)
    assert [c.type for c in found] == list(reasons.CONDITIONS)
    assert {(c.status, c.reason, c.observed_generation) for c in found} == {("Unknown", "Pending", 3)}


@pytest.mark.parametrize(("status", "moves"), [("Unknown", False), ("True", True)])
def test_the_time_moves_with_the_status_alone(status: str, moves: bool) -> None:
    before = updated([], {}, 1, NOW)
    after = updated(before, {reasons.TRAINED: Verdict(status, "Other", "new words")}, 2, NOW + timedelta(hours=1))  # type: ignore[arg-type]
    trained = next(c for c in after if c.type == reasons.TRAINED)
    assert (trained.reason, trained.message) == ("Other", "new words")
    assert trained.last_transition_time == stamp(NOW + timedelta(hours=1) if moves else NOW)


def test_what_nobody_speaks_of_stays() -> None:
    before = updated([], {reasons.QUOTA_RESERVED: Verdict("True", "Running", "admitted")}, 1, NOW)
    assert updated(before, {}, 1, NOW + timedelta(hours=1)) == before


@pytest.mark.parametrize(
    ("states", "expected"),
    [
        ([], ("True", "NotPlanned", "none")),
        (["Pending"], ("Unknown", "Pending", "")),
        (["Running", "Pending"], ("Unknown", "Running", "")),
        (["Succeeded", "Reused"], ("True", "Done", "")),
        (["Reused", "Reused"], ("True", "Reused", "")),
        (["Succeeded", "Failed"], ("False", "Failed", "stage s1: Failed")),
        (["Succeeded", "Waiting"], ("Unknown", "Waiting", "stage s1: Waiting")),
        (["Suspended"], ("Unknown", "Suspended", "")),
        (["Stopped"], ("Unknown", "Pending", "")),
    ],
)
def test_a_milestone_speaks_for_its_stages(states: list[str], expected: tuple[str, str, str]) -> None:
    stages = [StageStatus.model_validate({"name": f"s{i}", "state": state}) for i, state in enumerate(states)]
    assert milestone(stages, "none") == expected


@pytest.mark.parametrize(
    ("text", "limit", "expected"),
    [("short", 10, "short"), ("a\x00b\x1b[31m", 20, "a b [31m"), ("begin" + "x" * 50 + "end.", 13, "begin...xend.")],
)
def test_tenants_text_is_cut_in_the_middle_and_cleaned(text: str, limit: int, expected: str) -> None:
    assert clip(text, limit) == expected

"""How the pace of asking grows and falls."""

from __future__ import annotations

import pytest

from distillery_trainer.teacher.endpoint.pace import Pace


def test_the_pace_grows_by_one_a_window_and_falls_once_a_round() -> None:
    pace = Pace(chance=lambda: 1.0)
    for _ in range(4):
        pace.answered(sent=1.0)
    assert pace.width == 5
    pace.refused(sent=2.0, now=3.0, seconds=None)
    pace.refused(sent=2.5, now=3.1, seconds=None)
    assert pace.limit == pytest.approx(5 * 0.7)
    pace.answered(sent=2.9)
    assert pace.limit == pytest.approx(5 * 0.7)
    pace.refused(sent=4.0, now=5.0, seconds=7.0)
    assert pace.not_before >= 12.0


def test_back_off_has_full_jitter_and_an_end() -> None:
    always, never = Pace(chance=lambda: 1.0), Pace(chance=lambda: 0.0)
    for at in range(30):
        for pace in (always, never):
            pace.refused(sent=float(at) + 0.5, now=float(at) + 0.6, seconds=None)
    assert always.not_before == pytest.approx(29.6 + 60.0)
    assert never.not_before == pytest.approx(29.6)
    assert never.width == 1
    never.answered(sent=99.0)
    assert never.failing_since is None

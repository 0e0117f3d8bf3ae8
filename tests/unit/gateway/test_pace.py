"""What alerts and overruns mean for a job: go on, go slower, or wait."""

import pytest

from distillery.api.budget import Alert
from distillery.gateway.ledger import Account, WindowUse
from distillery.gateway.pace import pace, reached

DAILY = Account("nlp/team-a", "daily", "2026-11-24", "USD", 1000)
ALERTS = [Alert(at="50%"), Alert(at="80%", action="throttle"), Alert(at="95%", action="pause")]


def use(settled: int = 0, held: int = 0, reserved: int = 0, in_doubt: int = 0, overrun: int = 0, account: Account = DAILY) -> WindowUse:
    return WindowUse(account, settled, held, reserved, in_doubt, overrun)


@pytest.mark.parametrize(
    ("uses", "weight", "reason"),
    [
        ([use()], 1, None),
        ([use(settled=499)], 1, None),
        ([use(settled=799)], 1, None),
        ([use(settled=200, held=200, reserved=200, in_doubt=200)], 2, None),
        ([use(), use(settled=810)], 2, None),
        ([use(settled=950)], 1, "BudgetPaused"),
        ([use(settled=10, overrun=1)], 1, "Overrun"),
        ([use(settled=10**9, account=Account("nlp/team-a", "daily", "2026-11-24", "USD"))], 1, None),
        ([use(settled=10**9, account=Account("nlp/team-a", "total", "total", "tokens", 0))], 1, None),
    ],
)
def test_the_pace_of_a_job(uses: list[WindowUse], weight: int, reason: str | None) -> None:
    found = pace("nlp/team-a", ALERTS, uses)
    assert (found.weight, found.refused.reason if found.refused else None) == (weight, reason)


def test_a_pause_ends_with_its_window() -> None:
    found = pace("nlp/team-a", ALERTS, [use(settled=950)]).refused
    assert found is not None
    assert found.headers() == {"x-should-retry": "false", "X-Distillery-Resumes": "2026-11-25T00:00:00Z"}


def test_sentences_name_the_occasion_first() -> None:
    assert [found.sentence.partition(":")[0] for found in reached(ALERTS, [use(settled=800)])] == [
        "50% of daily 2026-11-24",
        "80% of daily 2026-11-24",
    ]

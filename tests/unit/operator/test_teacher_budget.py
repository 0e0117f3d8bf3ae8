"""The status of a TeacherBudget: what is shown, what is told, how often it is written."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from tests.crash.specs import BUDGET
from tests.unit.operator.objects import NOW

from distillery.api.budget import LedgerHead, TeacherStatus, Window
from distillery.api.usage import BudgetSnapshot
from distillery.decide_budget import BudgetDecision, decide_budget, problem
from distillery.observe import Silence, TeacherBudget, budget_from
from distillery.timestamps import stamp

DAILY = Window(name="daily", id="2026-01-01", limit="10.00", settled="4.00", held="1.00", in_doubt="0.50", remaining="4.50")
TOTAL = Window(name="total", id="total", limit="100.00", settled="90.00", remaining="10.00")
TOKENS = Window(
    name="monthly", unit="tokens", id="2026-01", limit="1000", settled="999", held="0", in_doubt="0", remaining="1", overrun="0"
)
READY = TeacherStatus(name="gpt-x", ready=True)


def snapshot(sequence: int = 1, **more: Any) -> BudgetSnapshot:
    """What the gateway tells at NOW."""
    head = LedgerHead(sequence=sequence, head_digest="a" * 64, observed_time=stamp(NOW))
    return BudgetSnapshot(**{"windows": [DAILY, TOTAL], "teachers": [READY], "saved": "0.30", "ledger": head} | more)


class Looking:
    """A budget that is looked at again and again."""

    def __init__(self, spec: dict[str, Any] | None = None) -> None:
        meta = {"name": "team", "namespace": "nlp", "uid": "u1", "resourceVersion": "1", "generation": 1}
        self.budget: TeacherBudget = budget_from({"metadata": meta, "spec": spec or BUDGET})
        self.now, self.writes = NOW, 0

    def look(self, told: BudgetSnapshot | Silence | str) -> BudgetDecision:
        if isinstance(told, BudgetSnapshot) and told.ledger is not None:
            told = told.model_copy(update={"ledger": told.ledger.model_copy(update={"observed_time": stamp(self.now)})})
        decision = decide_budget(self.budget, told, self.now)
        self.writes += decision.status != self.budget.status
        self.budget = replace(self.budget, status=decision.status)
        return decision

    def wait(self, seconds: float) -> None:
        self.now += timedelta(seconds=seconds)

    def condition(self, kind: str) -> tuple[str, str, str]:
        found = next(c for c in self.budget.status.conditions if c.type == kind)
        return found.status, found.reason, found.message


def reasons_told(decision: BudgetDecision) -> list[str]:
    return [event["reason"] for event in decision.events]


def test_a_budget_shows_the_window_with_the_least_left() -> None:
    looking = Looking()
    looking.look(snapshot())
    status = looking.budget.status
    assert status.summary is not None
    assert status.summary.wire() == {"window": "daily", "limit": "10.00", "used": "4.50", "reserved": "1.00", "remaining": "4.50"}
    assert looking.condition("Ready") == ("True", "Ready", "can be asked: gpt-x")
    assert [looking.condition(kind)[:2] for kind in ("Exhausted", "SoftLimitExceeded")] == [("False", "WithinLimits")] * 2
    assert (status.saved, status.observed_generation, len(status.windows)) == ("0.30", 1, 2)


@pytest.mark.parametrize(
    ("windows", "words"),
    [
        ([DAILY], None),
        (
            [TOTAL, DAILY.model_copy(update={"in_doubt": "0.500000001"})],
            "daily 2026-01-01: 0.500000001 of 10.00 are in doubt",
        ),
        ([TOKENS.model_copy(update={"in_doubt": "51"})], "monthly 2026-01 in tokens: 51 of 1000 are in doubt"),
        ([TOTAL.model_copy(update={"in_doubt": "6.00"})], "total: 6.00 of 100.00 are in doubt"),
    ],
)
def test_doubts_of_more_than_a_twentieth_of_a_limit_are_told_once(windows: list[Window], words: str | None) -> None:
    looking = Looking()
    decision = looking.look(snapshot(windows=windows))
    assert reasons_told(decision) == ([] if words is None else ["MoneyInDoubt"])
    status, reason, message = looking.condition("MoneyInDoubt")
    assert (status, reason) == (("False", "WithinLimits") if words is None else ("True", "MoneyInDoubt"))
    assert (words or "") in message
    writes = looking.writes
    assert reasons_told(looking.look(snapshot(windows=windows))) == []
    assert looking.writes == writes, "nothing moves, nothing is written"
    looking.wait(30)
    looking.look(snapshot(2))
    assert looking.condition("MoneyInDoubt")[:2] == ("False", "WithinLimits"), "resolved"


@pytest.mark.parametrize(("windows", "name"), [([DAILY, TOTAL, TOKENS], "daily"), ([TOKENS], "monthly tokens"), ([], None)])
def test_money_comes_before_tokens(windows: list[Window], name: str | None) -> None:
    looking = Looking()
    looking.look(snapshot(windows=windows))
    summary = looking.budget.status.summary
    assert (summary.window if summary else None) == name


@pytest.mark.parametrize(
    ("told", "status", "reason", "words"),
    [
        (Silence("no answer in time"), "Unknown", "GatewayUnavailable", "no answer in time"),
        ("spec.limits: none", "False", "InvalidSpec", "spec.limits"),
        (snapshot(read_only="restored from a copy; accept it"), "False", "LedgerReadOnly", "accept it"),
        (
            snapshot(teachers=[READY, TeacherStatus(name="b", ready=False, reason="CredentialMissing", message="create Secret b")]),
            "False", "CredentialMissing", "teacher b: create Secret b",
        ),
    ],
)  # fmt: skip
def test_what_keeps_teachers_from_being_asked(told: Any, status: str, reason: str, words: str) -> None:
    looking = Looking()
    decision = looking.look(told)
    assert looking.condition("Ready")[:2] == (status, reason)
    assert words in looking.condition("Ready")[2]
    assert reasons_told(decision) == ([reason] if status == "False" else [])
    assert reasons_told(looking.look(told)) == []


@pytest.mark.parametrize(
    ("told", "stalled"),
    [
        (snapshot(), "False"),
        (Silence("no answer in time"), "False"),
        (snapshot(read_only="restored from a copy; accept it"), "False"),
        (snapshot(teachers=[TeacherStatus(name="b", ready=False, reason="TeacherUnavailable", message="5 failures in a row")]), "False"),
        (snapshot(exhausted=["daily 2026-01-01: 10.00 USD are used up"]), "False"),
        ("spec.limits: none", "True"),
        (snapshot(teachers=[READY, TeacherStatus(name="b", ready=False, reason="CredentialMissing", message="create Secret b")]), "True"),
        (snapshot(teachers=[TeacherStatus(name="b", ready=False, reason="PriceUnknown", message="no price")]), "True"),
    ],
)
def test_a_budget_that_waiting_does_not_mend_is_stalled(told: Any, stalled: str) -> None:
    looking = Looking()
    looking.look(told)
    assert looking.condition("Stalled")[0] == stalled
    looking.look(snapshot(2))
    assert looking.condition("Stalled")[0] == "False", "and no longer once it is mended"


def test_silence_keeps_the_last_figures() -> None:
    looking = Looking()
    looking.look(snapshot())
    decision = looking.look(Silence("gone"))
    assert (looking.budget.status.windows, decision.requeue_after) == ([DAILY, TOTAL], 10)


def test_every_window_and_alert_is_told_once() -> None:
    looking = Looking()
    half, most = "50% of daily 2026-01-01: 5.00 of 10.00 USD", "80% of daily 2026-01-01: 8.10 of 10.00 USD"
    assert reasons_told(looking.look(snapshot(alerts=[half]))) == ["SoftLimitExceeded"]
    first = looking.look(snapshot(2, alerts=[most, half], exhausted=["total: 100.00 USD are used up"]))
    assert [event["note"] for event in first.events] == ["total: 100.00 USD are used up", most]
    assert looking.condition("SoftLimitExceeded")[0] == looking.condition("Exhausted")[0] == "True"
    again = looking.look(snapshot(3, alerts=[most.replace("8.10", "8.20"), half], exhausted=["total: 100.00 USD are used up"]))
    assert again.events == ()
    assert first.events[0]["regarding"] == {
        "apiVersion": "distillery.dev/v1alpha1", "kind": "TeacherBudget", "namespace": "nlp", "name": "team", "uid": "u1",
    }  # fmt: skip


def test_figures_are_written_every_fifteen_seconds_and_not_at_all_while_nothing_moves() -> None:
    looking = Looking()
    for second in range(300):
        moved = DAILY.model_copy(update={"settled": f"{second / 100:.2f}"})
        assert looking.look(snapshot(second, windows=[moved])).requeue_after <= 30
        looking.wait(1)
    assert looking.writes == 20
    looking.wait(15)
    looking.look(snapshot(299, windows=[moved]))
    before = looking.writes
    for _ in range(300):
        looking.look(snapshot(299, windows=[moved]))
        looking.wait(1)
    assert looking.writes == before


def test_a_condition_is_written_at_once() -> None:
    looking = Looking()
    looking.look(snapshot())
    looking.wait(1)
    looking.look(snapshot(2, exhausted=["daily 2026-01-01: 10.00 USD are used up"]))
    assert (looking.writes, looking.condition("Exhausted")[0]) == (2, "True")


def test_jobs_are_woken_by_a_change_of_the_spec_and_by_what_heals() -> None:
    looking = Looking()
    assert looking.look(snapshot()).wake, "it was missing until now"
    assert not looking.look(snapshot()).wake
    assert not looking.look(snapshot(2, exhausted=["daily 2026-01-01: used up"])).wake
    looking.budget = replace(looking.budget, generation=2)
    assert looking.look(snapshot(3, exhausted=["daily 2026-01-01: used up"])).wake
    assert looking.look(snapshot(4)).wake
    looking.look(Silence("gone"))
    assert looking.look(snapshot(4)).wake
    assert not looking.look(snapshot(4, alerts=["80% of daily 2026-01-01: 8.10 of 10.00 USD"])).wake
    assert looking.look(snapshot(4)).wake, "an alert may have paused it"


def test_a_raised_limit_that_is_used_up_again_is_told_again() -> None:
    looking = Looking()
    used_up = snapshot(exhausted=["daily 2026-01-01: 10.00 USD are used up"])
    first = looking.look(used_up).events[0]["metadata"]["name"]
    looking.budget = replace(looking.budget, generation=2)
    looking.look(snapshot(2))
    assert looking.look(used_up).events[0]["metadata"]["name"] != first


def test_a_spec_that_the_models_refuse_is_not_asked_about() -> None:
    assert problem(Looking().budget) is None
    assert "spec.limits: limits need at least one bound" in (problem(Looking(BUDGET | {"limits": {}}).budget) or "")

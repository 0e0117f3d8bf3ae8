"""What the operator is told: may a job go on, what has it paid, what will it cost; and what a budget has left."""

from typing import Any

import pytest
from tests.unit.gateway.conftest import Gate, budget, job
from tests.unit.gateway.teacher_double import answers, status

from distillery.api.usage import BudgetSnapshot, Reservation
from distillery.gateway.ledger import JobUsage
from distillery.gateway.reservations import estimate_of

JOB = "/v1/reservations/nlp/arith/uid-arith"


async def reserve(gate: Gate, requests: int = 100) -> Reservation:
    reply = await gate.request("PUT", JOB, json={"requests": requests, "longestPromptBytes": 500})
    assert reply.status == 200
    return Reservation.model_validate(reply.json)


async def snapshot(gate: Gate) -> BudgetSnapshot:
    return BudgetSnapshot.model_validate((await gate.request("GET", "/v1/budgets/nlp/team-a")).json)


async def test_a_reservation_is_of_one_request_until_the_pilot_has_told_what_they_cost(gate: Gate) -> None:
    found = await reserve(gate)
    assert (found.state, found.reason, found.estimate) == ("Granted", "BudgetReserved", None)
    # (500 bytes + 416 of a template) at 1 USD, and 50 tokens at 4 USD per million
    assert found.usage.reserved_cost == "0.001116"
    for k in range(20):
        await gate.ask(str(k))
    later = await reserve(gate)
    assert later.estimate is not None
    assert (later.estimate.cost, later.estimate.low, later.estimate.high) == ("0.0018",) * 3
    assert (later.estimate.sampled, later.estimate.input_tokens, later.estimate.output_tokens) == (20, 1000, 200)
    assert (later.usage.requests, later.usage.cost) == (20, "0.00036")


def test_the_interval_holds_the_truth_as_often_as_it_says() -> None:
    """Costs that are 10 or 30, each as often: the total of 1000, from 100 of them."""
    used = JobUsage(requests=100, answers=100, total=2000, squares=50 * 100.0 + 50 * 900.0)
    found = estimate_of(used, 1000)
    assert found is not None
    # sd 10.05 * sqrt(900**2 / 100 + 900) * 1.96
    assert (found.cost, found.low, found.high) == ("0.00002", "0.000018131", "0.000021869")


def test_hits_cost_nothing_and_are_not_expected_again() -> None:
    used = JobUsage(requests=10, answers=10, hits=90, total=1000, squares=100_000.0)
    found = estimate_of(used, 100)
    assert found is not None
    assert found.cost == found.low == found.high == "0.000001"


async def test_a_refusal_says_what_is_missing_and_until_when_and_a_raised_limit_grants(gate: Gate) -> None:
    gate.limits(monthly="0.0001")
    found = await reserve(gate)
    assert (found.state, found.reason, found.resumes) == ("Refused", "BudgetExhausted", "2026-12-01T00:00:00Z")
    assert found.message.startswith(
        "monthly 2026-11: the limit of 0.0001 USD has 0.0001 USD left and a request can cost up to 0.001116 USD"
    )
    assert 'raise spec.limits.monthly of TeacherBudget "nlp/team-a"' in found.message
    gate.limits(monthly="1.00")
    assert (await reserve(gate)).state == "Granted"


async def test_what_is_given_back_is_free_again_and_giving_back_twice_is_no_error(gate: Gate) -> None:
    await reserve(gate)
    await gate.ask()
    for _ in range(2):
        reply = await gate.request("DELETE", JOB)
        found = Reservation.model_validate(reply.json)
        assert (reply.status, found.reason, found.usage.cost, found.usage.reserved_cost) == (200, "Released", "0.000018", "0.00")
    window = (await snapshot(gate)).windows[0]
    assert (window.settled, window.held, window.remaining) == ("0.000018", "0.00", "0.999982")


async def test_a_job_that_is_gone_or_another_reserves_nothing(gate: Gate) -> None:
    reply = await gate.request("PUT", "/v1/reservations/nlp/arith/uid-other", json={"requests": 1, "longestPromptBytes": 1})
    assert (reply.status, reply.code) == (404, "gone")


async def test_money_comes_back_by_the_uid_alone_whatever_became_of_the_job(gate: Gate) -> None:
    await reserve(gate)
    await gate.ask()
    gate.objects.apply(budget(gate.teacher_url, name="team-b"))
    gate.objects.apply(job(budget_name="team-b"))
    both = await reserve(gate)
    assert (both.state, both.usage.requests, both.usage.cost, both.usage.reserved_cost) == ("Granted", 1, "0.000018", "0.002214")
    del gate.objects.jobs["nlp", "arith"]
    gate.objects.down = True
    found = Reservation.model_validate((await gate.request("DELETE", JOB)).json)
    assert (found.usage.cost, found.usage.reserved_cost) == ("0.000018", "0.00")
    unknown = await gate.request("DELETE", "/v1/reservations/nlp/arith/uid-never-seen")
    assert (unknown.status, Reservation.model_validate(unknown.json).usage.cost) == (200, "0.00")


async def test_a_reservation_sees_the_budget_as_it_is_now(gate: Gate) -> None:
    gate.limits(total="0.0001")
    assert (await reserve(gate)).state == "Refused"
    gate.objects.apply(budget(gate.teacher_url, {"total": "1.00"}))
    assert (await snapshot(gate)).windows[0].limit == "1.00"
    assert (await reserve(gate)).state == "Granted"


@pytest.mark.parametrize("body", [{}, {"requests": -1, "longestPromptBytes": 1}, {"requests": 1}, []])
async def test_a_malformed_reservation_is_refused(gate: Gate, body: Any) -> None:
    assert (await gate.request("PUT", JOB, json=body)).status == 400


async def test_a_snapshot_tells_windows_teachers_and_alerts(gate: Gate) -> None:
    known = budget(gate.teacher_url, {"total": "0.0005", "daily": "1.00", "tokens": {"monthly": 50}}, alerts=[{"at": "1%"}])
    gate.objects.apply(known)
    found = await snapshot(gate)
    assert [(w.name, w.unit, w.id, w.limit, w.remaining, w.resets) for w in found.windows] == [
        ("daily", "USD", "2026-11-24", "1.00", "1.00", "2026-11-25T00:00:00Z"),
        ("total", "USD", "total", "0.0005", "0.0005", None),
        ("monthly", "tokens", "2026-11", "50", "50", "2026-12-01T00:00:00Z"),
    ]
    assert [(t.name, t.ready, t.reason) for t in found.teachers] == [("gpt-x", True, "Ready")]
    assert (found.exhausted, found.alerts, found.read_only) == ([], [], None)
    reply = await gate.ask()
    assert (reply.code, "monthly 2026-11 in tokens: the limit of 50 tokens" in reply.json["error"]["message"]) == ("budget_exhausted", True)
    gate.limits(total="0.0005")
    await gate.ask()
    assert (await snapshot(gate)).alerts == ["1% of total: 0.000018 USD of 0.0005 USD are settled, held or in doubt"]
    await gate.ask()
    assert (await snapshot(gate)).saved == "0.000018"


async def test_a_window_with_less_than_a_request_needs_is_exhausted(gate: Gate) -> None:
    gate.limits(total="0.00039")
    assert (await snapshot(gate)).exhausted == []
    await gate.ask("a")
    assert (await gate.ask("b")).code == "budget_exhausted"
    found = (await snapshot(gate)).exhausted
    assert len(found) == 1
    assert found[0].startswith("total: the limit of 0.00039 USD has 0.000372 USD left and a request can cost up to")
    gate.limits(total="1.00")
    assert (await snapshot(gate)).exhausted == []


async def test_a_snapshot_tells_why_a_teacher_is_not_asked(gate: Gate) -> None:
    gate.teacher.otherwise = status(401)
    await gate.ask()
    found = (await snapshot(gate)).teachers[0]
    assert (found.ready, found.reason) == (False, "TeacherUnavailable")
    assert "ask your platform team to renew it" in found.message
    (gate.asking.law.credentials._by_name["openai"]._folder / "key").unlink()
    gate.time.forward(seconds=6)
    assert (await snapshot(gate)).teachers[0].reason == "CredentialMissing"


async def test_an_overrun_is_an_alert_and_a_window_shows_it(gate: Gate) -> None:
    gate.teacher.otherwise = answers(usage={"prompt_tokens": 10, "completion_tokens": 90_000})
    await gate.ask()
    found = await snapshot(gate)
    assert found.alerts[0].startswith('overrun: TeacherBudget "nlp/team-a": a teacher billed')
    assert found.windows[0].overrun > "0.3"
    gate.time.forward(seconds=2)
    refused = await reserve(gate)
    assert (refused.state, refused.reason) == ("Refused", "Overrun")


async def test_the_ledger_is_read_as_lines_from_any_entry_on(gate: Gate) -> None:
    await gate.ask()
    everything = (await gate.request("GET", "/v1/ledger/entries")).text.splitlines()
    assert len(everything) == (await gate.asking.ledger.head()).sequence
    assert (await gate.request("GET", "/v1/ledger/entries?after=3")).text.splitlines() == everything[3:]
    assert (await gate.request("GET", "/v1/ledger/entries?after=x")).status == 400

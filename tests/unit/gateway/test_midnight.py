"""Days and months end while requests are under way, clocks are set back, approvals run out: to the second, whatever is remembered."""

import asyncio
from datetime import UTC, datetime, timedelta

import pytest
from tests.unit.gateway.conftest import Gate, budget, teacher_spec
from tests.unit.gateway.teacher_double import waits

from distillery.gateway.ledger import Account

COST = 18000


def at(gate: Gate, *moment: int) -> None:
    """Set the time of day; the monotonic clock goes on by ten seconds."""
    gate.time.forward(seconds=10)
    gate.time.start = datetime(*moment, tzinfo=UTC) - gate.time.passed  # type: ignore[arg-type, misc]


async def settled(gate: Gate, window: str, period: str) -> int:
    """Of one window."""
    (use,) = await gate.asking.ledger.windows((Account("nlp/team-a", window, period, "USD"),))  # type: ignore[arg-type]
    return use.settled


async def test_an_answer_that_comes_next_month_is_paid_in_the_month_it_was_asked_in(gate: Gate) -> None:
    at(gate, 2026, 11, 30, 23, 59, 58)
    may = asyncio.Event()
    gate.teacher.script.append(waits(may))
    asked = asyncio.create_task(gate.ask())
    await gate.teacher.arrived.wait()
    gate.time.forward(seconds=5)
    may.set()
    assert (await asked).status == 200
    assert [await settled(gate, "monthly", month) for month in ("2026-11", "2026-12")] == [COST, 0]
    await gate.ask("another")
    assert [await settled(gate, "monthly", month) for month in ("2026-11", "2026-12")] == [COST, COST]
    assert [await settled(gate, "daily", day) for day in ("2026-11-30", "2026-12-01")] == [COST, COST]


@pytest.mark.parametrize("limits", [{"daily": "0.00039"}, {"monthly": "0.00039"}])
async def test_a_new_month_opens_its_windows(gate: Gate, limits: dict[str, str]) -> None:
    gate.limits(**limits)
    at(gate, 2026, 11, 30, 23, 59, 50)
    assert [(await gate.ask(text)).status for text in "ab"] == [200, 429]
    gate.time.forward(seconds=11)
    assert [(await gate.ask(text)).status for text in "bc"] == [200, 429]


async def test_a_clock_that_is_set_back_opens_no_window_again(gate: Gate) -> None:
    gate.limits(daily="0.00039")
    assert [(await gate.ask(text)).status for text in "ab"] == [200, 429]
    at(gate, 2026, 11, 25, 0, 0, 1)
    assert [(await gate.ask(text)).status for text in "bc"] == [200, 429]
    at(gate, 2026, 11, 24, 23, 0, 0)
    assert (await gate.ask("c")).code == "budget_exhausted"
    assert [await settled(gate, "daily", day) for day in ("2026-11-24", "2026-11-25")] == [COST, COST]


async def test_an_approval_ends_with_its_day(gate: Gate) -> None:
    url = "https://api.anthropic.com/v1"
    gate.asking.law.credentials._by_name["openai"].entry.base_urls.append(url)
    terms = {"approval": {"reference": "legal-7", "expires": "2026-11-24"}}
    gate.objects.apply(budget(url, teachers=[teacher_spec(url, terms=terms)]))
    at(gate, 2026, 11, 24, 23, 59, 59)
    assert (await gate.request("GET", "/v1/teacher", "pod:nlp/arith/preflight")).status == 200
    gate.time.start += timedelta(seconds=1)
    reply = await gate.request("GET", "/v1/teacher", "pod:nlp/arith/preflight")
    assert (reply.status, reply.code) == (403, "approval_expired")

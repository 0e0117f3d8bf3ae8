"""How fast a teacher is asked, in virtual time."""

import asyncio

import pytest

from distillery.api.budget import RateLimits
from distillery.gateway.errors import Refused
from distillery.gateway.teachers.flows import LONGEST
from distillery.gateway.teachers.limits import Limits

pytestmark = [pytest.mark.looptime]
TEAM, OTHER = "nlp/team-a/gpt-x", "vision/team-b/gpt-x"


def limits(patience: float = 30.0, **given: int) -> Limits:
    found = Limits(asyncio.get_running_loop().time, patience)
    found.declare(TEAM, RateLimits(**{"max_concurrency": 1000, **given}))
    prove(found, TEAM)
    return found


def prove(found: Limits, budget: str) -> None:
    for _ in range(10):
        found.within_bounds(budget)


async def times(found: Limits, count: int, tokens: int = 1, weight: int = 1) -> list[float]:
    """When each of so many requests, all there from the beginning, gets its turn; each ends at once."""
    start, loop = asyncio.get_running_loop().time(), asyncio.get_running_loop()

    async def one() -> float:
        await found.enter(TEAM, tokens, weight)
        found.leave(TEAM, weight)
        return loop.time() - start

    return list(await asyncio.gather(*(one() for _ in range(count))))


async def test_no_minute_has_more_requests_than_the_limit() -> None:
    turns = await times(limits(patience=1e6, requests_per_minute=60), 200)
    assert max(sum(turn <= other < turn + 60 for other in turns) for turn in turns) <= 60
    assert turns == sorted(turns)
    assert turns[-1] < 60 * 200 / 50


async def test_no_minute_has_more_tokens_than_the_limit() -> None:
    turns = await times(limits(patience=1e6, tokens_per_minute=6000), 60, tokens=100)
    assert max(sum(turn <= other < turn + 60 for other in turns) for turn in turns) * 100 <= 6000


async def test_a_request_larger_than_a_minutes_tokens_goes_alone_and_is_paid_off() -> None:
    turns = await times(limits(patience=1e6, tokens_per_minute=600), 3, tokens=1200)
    assert turns[0] == 0
    assert turns[1] > 100


async def test_two_that_share_keep_to_the_limit_together_also_when_a_second_one_comes() -> None:
    """The newcomer has no share until the first has gone down to a half; nobody gets a second burst."""
    first, second = limits(patience=1e6, requests_per_minute=60), limits(patience=1e6, requests_per_minute=60)
    second.share(0.0)
    turns = [asyncio.create_task(times(found, 100)) for found in (first, second)]
    await asyncio.sleep(30)
    first.share(0.5)
    second.share(0.5)
    alone, late = await asyncio.gather(*turns)
    assert min(late) >= 30
    every = sorted([*alone, *late])
    assert max(sum(turn <= other < turn + 60 for other in every) for turn in every) <= 60
    assert every[-1] < 30 + 100 / 0.44, "each goes on at its half"


async def test_a_share_of_requests_at_once_is_one_at_least() -> None:
    found = limits(max_concurrency=4)
    found.share(0.25)
    await found.enter(TEAM, 1, 1)
    second = asyncio.create_task(found.enter(TEAM, 1, 1))
    await asyncio.sleep(1)
    assert not second.done()
    found.share(0.5)
    await second
    found.leave(TEAM, 1)
    found.leave(TEAM, 1)


async def test_so_many_at_once() -> None:
    found = limits(max_concurrency=2)
    await found.enter(TEAM, 1, 1)
    await found.enter(TEAM, 1, 1)
    third = asyncio.create_task(found.enter(TEAM, 1, 1))
    await asyncio.sleep(1)
    assert not third.done()
    found.leave(TEAM, 1)
    await third


async def test_who_waits_too_long_is_sent_away_and_told_when_to_come_back() -> None:
    found = limits(requests_per_minute=1)
    await found.enter(TEAM, 1, 1)
    with pytest.raises(Refused) as told:
        await found.enter(TEAM, 1, 1)
    assert asyncio.get_running_loop().time() == pytest.approx(30, abs=1)
    assert (told.value.status, told.value.reason) == (429, "RateLimitExceeded")
    assert told.value.retry_after == pytest.approx(30, abs=1)


async def test_who_was_sent_away_or_left_takes_no_turn() -> None:
    found = limits(max_concurrency=1)
    await found.enter(TEAM, 1, 1)
    gone = asyncio.create_task(found.enter(TEAM, 1, 1))
    next_one = asyncio.create_task(found.enter(TEAM, 1, 1))
    await asyncio.sleep(1)
    gone.cancel()
    await asyncio.sleep(1)
    found.leave(TEAM, 1)
    await asyncio.wait_for(next_one, 1)


async def test_a_turn_that_came_while_its_request_was_cancelled_is_given_on() -> None:
    found = limits(max_concurrency=1)
    await found.enter(TEAM, 1, 1)
    gone = asyncio.create_task(found.enter(TEAM, 1, 1))
    await asyncio.sleep(1)
    found.leave(TEAM, 1)
    gone.cancel()
    with pytest.raises(asyncio.CancelledError):
        await gone
    await asyncio.wait_for(found.enter(TEAM, 1, 1), 1)


async def test_a_complaint_silences_for_as_long_as_it_says_and_lowers_what_goes_at_once() -> None:
    found = limits(max_concurrency=10)
    found.too_fast(5.0)
    turns = await times(found, 1)
    assert turns[0] == pytest.approx(5, abs=0.1)
    entered = [asyncio.create_task(found.enter(TEAM, 1, 1)) for _ in range(10)]
    await asyncio.sleep(1)
    assert sum(task.done() for task in entered) == 7


async def test_complaints_of_one_burst_count_once_and_success_brings_it_back() -> None:
    found = limits(max_concurrency=10)
    for _ in range(5):
        found.too_fast(0.0)
    for _ in range(100):
        found.went_well()
    entered = [asyncio.create_task(found.enter(TEAM, 1, 1)) for _ in range(12)]
    await asyncio.sleep(1)
    assert sum(task.done() for task in entered) == 10


async def test_a_throttled_budget_goes_at_half_the_pace() -> None:
    whole, half = (
        await times(limits(patience=1e6, requests_per_minute=60), 60),
        await times(limits(patience=1e6, requests_per_minute=60), 60, weight=2),
    )
    assert half[-1] == pytest.approx(2 * whole[-1], rel=0.15)


async def test_of_two_budgets_the_strictest_limit_counts() -> None:
    found = limits(max_concurrency=10)
    found.declare(OTHER, RateLimits(max_concurrency=3))
    entered = [asyncio.create_task(found.enter(TEAM, 1, 1)) for _ in range(10)]
    await asyncio.sleep(1)
    assert sum(task.done() for task in entered) == 3


async def test_a_budget_that_asks_no_more_binds_no_more() -> None:
    found = limits(max_concurrency=1)
    await asyncio.sleep(601)
    found.declare(OTHER, RateLimits(max_concurrency=3))
    prove(found, OTHER)
    entered = [asyncio.create_task(found.enter(OTHER, 1, 1)) for _ in range(10)]
    await asyncio.sleep(1)
    assert sum(task.done() for task in entered) == 3


async def order(found: Limits, *asks: tuple[str, int, int]) -> list[str]:
    """Whose requests (budget, tokens, weight) go in which order, where one goes at a time and all are there from the beginning."""
    gone: list[str] = []
    await found.enter("nobody", 1, 1)

    async def one(budget: str, tokens: int, weight: int) -> None:
        await found.enter(budget, tokens, weight)
        gone.append(budget)
        found.leave(budget, weight)

    tasks = [asyncio.create_task(one(*ask)) for ask in asks]
    await asyncio.sleep(0.01)
    found.leave("nobody", 1)
    await asyncio.gather(*tasks)
    return gone


async def test_a_budget_that_floods_waits_behind_itself_alone() -> None:
    gone = await order(limits(max_concurrency=1), *[(TEAM, 10, 1)] * 500, *[(OTHER, 10, 1)] * 5)
    assert gone[:10] == [TEAM, OTHER] * 5
    assert gone[10:] == [TEAM] * 495


async def test_turns_are_dealt_by_the_tokens_that_they_cost() -> None:
    gone = await order(limits(max_concurrency=1), *[(TEAM, 30, 1)] * 20, *[(OTHER, 10, 1)] * 20)
    assert gone[:16].count(OTHER) == 12


async def test_a_throttled_budget_has_half_the_turns() -> None:
    gone = await order(limits(max_concurrency=2), *[(TEAM, 10, 2)] * 20, *[(OTHER, 10, 1)] * 20)
    assert gone[:15].count(OTHER) == 10


async def test_who_was_idle_has_saved_up_nothing() -> None:
    found = limits(max_concurrency=1)
    await times(found, 100, tokens=10)
    gone = await order(found, *[(TEAM, 10, 1)] * 4, *[(OTHER, 10, 1)] * 4)
    assert sorted(gone[:2]) == sorted(gone[2:4]) == [TEAM, OTHER]


async def test_a_full_queue_is_full_for_its_own_budget_alone() -> None:
    found = limits(max_concurrency=1)
    await found.enter(TEAM, 1, 1)
    waiting = [asyncio.create_task(found.enter(TEAM, 1, 1)) for _ in range(LONGEST)]
    await asyncio.sleep(0)
    with pytest.raises(Refused):
        await found.enter(TEAM, 1, 1)
    other = asyncio.create_task(found.enter(OTHER, 1, 1))
    await asyncio.sleep(0)
    found.leave(TEAM, 1)
    found.leave(TEAM, 1)
    await other
    for task in waiting:
        task.cancel()


async def test_a_budget_whose_bounds_are_not_proved_begins_with_one_and_doubles() -> None:
    found = Limits(asyncio.get_running_loop().time)
    found.declare(TEAM, RateLimits(max_concurrency=5))
    tasks = [asyncio.create_task(found.enter(TEAM, 1, 1)) for _ in range(20)]
    seen = []
    for _ in range(4):
        await asyncio.sleep(0.01)
        seen.append(sum(task.done() for task in tasks))
        found.within_bounds(TEAM)
        found.leave(TEAM, 1)
    # one has left before each further look
    assert [count - left for left, count in enumerate(seen)] == [1, 2, 4, 5]
    await asyncio.sleep(0.01)
    found.beyond_bounds(TEAM)
    done = sum(task.done() for task in tasks)
    for _ in range(4):
        found.leave(TEAM, 1)
        await asyncio.sleep(0.01)
        assert sum(task.done() for task in tasks) == done
    found.leave(TEAM, 1)
    await asyncio.sleep(0.01)
    assert sum(task.done() for task in tasks) == done + 1
    for task in tasks:
        task.cancel()


async def test_a_budget_that_has_to_prove_its_bounds_holds_up_no_other() -> None:
    found = Limits(asyncio.get_running_loop().time)
    for budget in (TEAM, OTHER):
        found.declare(budget, RateLimits())
    slow = [asyncio.create_task(found.enter(TEAM, 1, 1)) for _ in range(10)]
    await asyncio.sleep(0)
    await asyncio.wait_for(found.enter(OTHER, 1, 1), 1)
    assert sum(task.done() for task in slow) == 1
    for task in slow:
        task.cancel()

"""What is set aside for a job, and what the calendar and the clock do to it."""

from datetime import UTC, datetime, timedelta

import pytest
from tests.contract.ledger.test_holds import balances
from tests.unit.ledger.wallet import NOON, Wallet

from distillery.gateway.ledger import Granted, JobUsage, Ledger, Need, Refusal

NEED = Need(smallest=100, smallest_tokens=10, remaining=2000, estimate=2000, remaining_tokens=200, estimate_tokens=200)


async def test_a_tranche_is_set_aside_and_requests_draw_on_it(ledger: Ledger) -> None:
    wallet = Wallet(usd={"total": 1000})
    assert await ledger.reserve(wallet.job(), wallet.accounts(), NEED, NOON) == Granted(500, 50)
    await ledger.hold(wallet.hold(100, 10))
    assert await balances(ledger, wallet) == {"held": 100, "reserved": 400}
    assert await ledger.reserve(wallet.job(), wallet.accounts(), NEED, NOON) == Granted(400, 40), "a sign of life grants no more"


async def test_a_reservation_keeps_others_out(ledger: Ledger) -> None:
    wallet = Wallet(usd={"total": 600})
    await ledger.reserve(wallet.job("job-1"), wallet.accounts(uid="job-1"), NEED, NOON)
    assert await ledger.reserve(wallet.job("job-2"), wallet.accounts(uid="job-2"), NEED, NOON) == Granted(100, 50), "one request fits"
    with pytest.raises(Refusal):
        await ledger.reserve(wallet.job("job-3"), wallet.accounts(uid="job-3"), NEED, NOON)
    await ledger.give_back(wallet.job("job-1"), NOON)
    await ledger.give_back(wallet.job("job-1"), NOON)
    assert await ledger.reserve(wallet.job("job-3"), wallet.accounts(uid="job-3"), NEED, NOON) == Granted(500, 50)


async def test_a_reservation_that_is_too_small_is_topped_up(ledger: Ledger) -> None:
    wallet = Wallet(usd={"total": 1000})
    await ledger.reserve(wallet.job(), wallet.accounts(), NEED, NOON)
    for _ in range(5):
        await ledger.hold(wallet.hold(100, 10))
    assert await balances(ledger, wallet) == {"held": 500}
    await ledger.hold(wallet.hold(100, 10))
    assert await balances(ledger, wallet) == {"held": 600, "reserved": 400}, "the next tranche"


async def test_what_requests_leave_over_goes_back_up_to_a_tranche(ledger: Ledger) -> None:
    wallet = Wallet(usd={"total": 10_000})
    await ledger.reserve(wallet.job(), wallet.accounts(), NEED, NOON)
    holds = [wallet.hold(400, 10) for _ in range(3)]
    for hold in holds:
        await ledger.hold(hold)
    for hold in holds:
        await ledger.settle(hold.id, 10, 1, 1, NOON, None)
    assert await balances(ledger, wallet) == {"settled": 30, "reserved": 500}
    await ledger.reserve(wallet.job(), wallet.accounts(), Need(100, 10, 200, 2000), NOON)
    assert await balances(ledger, wallet) == {"settled": 30, "reserved": 240}, "the work became less"


async def test_a_refused_job_keeps_nothing_aside(ledger: Ledger) -> None:
    wallet = Wallet(usd={"total": 600})
    await ledger.reserve(wallet.job(), wallet.accounts(), NEED, NOON)
    with pytest.raises(Refusal) as refused:
        await ledger.hold(wallet.hold(601))
    assert (refused.value.needed, refused.value.free) == (601, 600)
    assert await balances(ledger, wallet) == {}


async def test_a_lowered_limit_shrinks_a_reservation_before_it_refuses(ledger: Ledger) -> None:
    wallet = Wallet(usd={"total": 1000})
    await ledger.reserve(wallet.job(), wallet.accounts(), NEED, NOON)
    wallet.usd["total"] = 150
    await ledger.hold(wallet.hold(100, 10))
    assert await balances(ledger, wallet) == {"held": 100}
    with pytest.raises(Refusal):
        await ledger.hold(wallet.hold(100, 10))


async def test_the_unspent_part_lapses_with_the_day_and_late_bills_stay_in_theirs(ledger: Ledger) -> None:
    wallet = Wallet(usd={"daily": 1000, "monthly": 1000, "total": 5000})
    before, after = datetime(2026, 11, 30, 23, 59, tzinfo=UTC), datetime(2026, 12, 1, 0, 1, tzinfo=UTC)
    await ledger.reserve(wallet.job(), wallet.accounts(before), NEED, before)
    late = wallet.hold(100, 10, before)
    await ledger.hold(late)
    await ledger.hold(wallet.hold(100, 10, after))
    await ledger.settle(late.id, 70, 1, 1, after, None)
    old = await ledger.windows(wallet.accounts(before)[:3])
    new = await ledger.windows(wallet.accounts(after)[:3])
    assert [(use.settled, use.held, use.reserved) for use in old[1:]] == [(70, 0, 0)] * 2, "day and month of the dispatch"
    assert [(use.settled, use.held, use.reserved) for use in new[1:]] == [(0, 100, 400)] * 2, "granted anew"
    assert (new[0].settled, new[0].held, new[0].reserved) == (70, 100, 400), "the job is one"


async def test_a_new_month_grants_again(ledger: Ledger) -> None:
    wallet = Wallet(usd={"monthly": 100})
    await ledger.hold(wallet.hold(100, at=datetime(2026, 11, 30, 23, 59, 59, 999999, tzinfo=UTC)))
    with pytest.raises(Refusal):
        await ledger.hold(wallet.hold(1, at=datetime(2026, 11, 30, 23, 59, 59, 999999, tzinfo=UTC)))
    await ledger.hold(wallet.hold(100, at=datetime(2026, 12, 1, tzinfo=UTC)))


async def test_a_clock_that_was_set_back_opens_no_closed_window(ledger: Ledger) -> None:
    wallet = Wallet(usd={"daily": 100})
    yesterday = NOON - timedelta(days=1)
    await ledger.hold(wallet.hold(60, at=NOON))
    with pytest.raises(Refusal) as refused:
        await ledger.hold(wallet.hold(60, at=yesterday))
    assert refused.value.account == wallet.account("daily", NOON)
    hold = wallet.hold(40, at=yesterday)
    await ledger.hold(hold)
    await ledger.settle(hold.id, 40, 0, 0, yesterday, None)
    assert await balances(ledger, wallet, "daily") == {"held": 60, "settled": 40}
    [closed] = await ledger.windows((wallet.account("daily", yesterday),))
    assert closed.free == 100


async def test_a_window_between_two_others_is_not_reopened_in_one_batch(ledger: Ledger) -> None:
    """A leap forward and back within one transaction: all of it is booked in the latest window."""
    wallet = Wallet(usd={"daily": 100})
    for days in (0, 2, 1):
        await ledger.hold(wallet.hold(30, at=NOON + timedelta(days=days)))
    used = [(await ledger.windows((wallet.account("daily", NOON + timedelta(days=days)),)))[0].held for days in (0, 1, 2)]
    assert used == [30, 0, 60]


async def test_a_reservation_without_a_sign_of_life_lapses(ledger: Ledger) -> None:
    wallet = Wallet()
    await ledger.reserve(wallet.job("idle"), wallet.accounts(uid="idle"), NEED, NOON)
    await ledger.reserve(wallet.job("busy"), wallet.accounts(uid="busy"), NEED, NOON)
    held = wallet.hold(100, 10, uid="idle")
    await ledger.hold(held)
    later = NOON + timedelta(minutes=9)
    await ledger.reserve(wallet.job("busy"), wallet.accounts(later, uid="busy"), NEED, later)
    assert (await ledger.sweep(NOON + timedelta(minutes=10))).lapsed == 0
    assert (await ledger.sweep(NOON + timedelta(minutes=11))).lapsed == 1
    idle, busy = await ledger.usage(wallet.job("idle")), await ledger.usage(wallet.job("busy"))
    assert (idle.reserved, idle.held) == (0, 100), "its request goes on"
    assert busy == JobUsage(reserved=500)
    await ledger.settle(held.id, 1, 0, 0, later, None)
    assert (await ledger.usage(wallet.job("idle"))).reserved == 0

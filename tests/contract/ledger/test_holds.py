"""What is granted, refused, paid and kept, on both databases."""

import asyncio
from dataclasses import astuple, replace

import pytest
from tests.unit.ledger.wallet import NOON, Wallet

from distillery.gateway.ledger import Hold, HoldResolved, JobUsage, Ledger, LedgerError, Need, Refusal, Settled, Why
from distillery.gateway.ledger.contract import WindowName


async def balances(ledger: Ledger, wallet: Wallet, window: WindowName = "total", unit: str = "USD") -> dict[str, int]:
    """The buckets of one account that are not empty."""
    [use] = await ledger.windows((wallet.account(window, unit=unit),))
    named = {"settled": use.settled, "held": use.held, "reserved": use.reserved, "in_doubt": use.in_doubt, "overrun": use.overrun}
    return {name: amount for name, amount in named.items() if amount}


@pytest.mark.parametrize("window", ["perJob", "daily", "monthly", "total"])
async def test_no_window_grants_beyond_its_limit(ledger: Ledger, window: WindowName) -> None:
    wallet = Wallet(usd={window: 250})
    await ledger.hold(wallet.hold(100))
    await ledger.hold(wallet.hold(100))
    with pytest.raises(Refusal) as refused:
        await ledger.hold(wallet.hold(100))
    assert (refused.value.account, refused.value.needed, refused.value.free) == (wallet.account(window), 100, 50)
    assert await balances(ledger, wallet, window) == {"held": 200}
    await ledger.hold(wallet.hold(50))


async def test_tokens_have_limits_too(ledger: Ledger) -> None:
    wallet = Wallet(usd={"total": 1000}, tokens={"daily": 100})
    await ledger.hold(wallet.hold(1, tokens=100))
    with pytest.raises(Refusal, match=r"window daily 2026-11-24 has 0 tokens left of 100, 1 were needed"):
        await ledger.hold(wallet.hold(1, tokens=1))


async def test_the_window_that_resumes_last_is_named(ledger: Ledger) -> None:
    wallet = Wallet(usd={"daily": 10, "monthly": 10, "total": 10})
    with pytest.raises(Refusal) as refused:
        await ledger.hold(wallet.hold(11))
    assert refused.value.account.window == "total"


async def test_what_was_not_billed_is_free_again(ledger: Ledger) -> None:
    wallet = Wallet(usd={"total": 100}, tokens={"total": 100})
    hold = wallet.hold(100, tokens=100)
    await ledger.hold(hold)
    assert await ledger.settle(hold.id, 30, 10, 5, NOON, None) == Settled(30, 0, 0)
    assert await balances(ledger, wallet) == {"settled": 30}
    assert await balances(ledger, wallet, unit="tokens") == {"settled": 15}
    await ledger.hold(wallet.hold(70, tokens=85))


async def test_a_bill_beyond_the_hold_is_an_overrun_and_is_used_up(ledger: Ledger) -> None:
    wallet = Wallet(usd={"total": 100})
    hold = wallet.hold(60, tokens=10)
    await ledger.hold(hold)
    assert await ledger.settle(hold.id, 75, 8, 9, NOON, None) == Settled(60, 15, 7)
    assert await balances(ledger, wallet) == {"settled": 60, "overrun": 15}
    with pytest.raises(Refusal):
        await ledger.hold(wallet.hold(26))
    assert (await ledger.usage(wallet.job())).overrun == 15


async def test_doubt_keeps_the_worst_case_until_the_bill_is_known(ledger: Ledger) -> None:
    wallet = Wallet(usd={"total": 100})
    hold = wallet.hold(100)
    await ledger.hold(hold)
    await ledger.doubt(hold.id, NOON, Why.TIMEOUT)
    assert await balances(ledger, wallet) == {"in_doubt": 100}
    with pytest.raises(HoldResolved, match="inDoubt"):
        await ledger.release(hold.id, NOON, Why.BUSY)
    await ledger.settle(hold.id, 40, 1, 1, NOON, None)
    assert await balances(ledger, wallet) == {"settled": 40}


async def test_a_hold_ends_once(ledger: Ledger) -> None:
    wallet = Wallet()
    paid, released = wallet.hold(10, 10), wallet.hold(10, 10)
    for hold in (paid, released):
        await ledger.hold(hold)
    await ledger.settle(paid.id, 5, 1, 1, NOON, None)
    await ledger.release(released.id, NOON, Why.BUSY)
    assert await ledger.settle(paid.id, 5, 1, 1, NOON, None) == Settled(5, 0, 0), "told twice, booked once"
    await ledger.release(released.id, NOON, Why.BUSY)
    for wrong in (
        ledger.settle(paid.id, 6, 1, 1, NOON, None), ledger.release(paid.id, NOON, Why.BUSY),
        ledger.doubt(paid.id, NOON, Why.TIMEOUT),
        ledger.settle(released.id, 5, 1, 1, NOON, None), ledger.doubt(released.id, NOON, Why.TIMEOUT),
        ledger.release("unknown", NOON, Why.BUSY),
        ledger.hold(paid),
    ):  # fmt: skip
        with pytest.raises(HoldResolved):
            await wrong
    assert await balances(ledger, wallet) == {"settled": 5}


async def test_a_refused_request_does_not_hurt_others_of_its_batch(ledger: Ledger) -> None:
    wallet = Wallet(usd={"total": 100})
    holds = [wallet.hold(amount) for amount in (60, 70, 40, 1)]
    outcomes = await asyncio.gather(*(ledger.hold(hold) for hold in holds), return_exceptions=True)
    assert [type(outcome).__name__ for outcome in outcomes] == ["NoneType", "Refusal", "NoneType", "Refusal"]
    assert await balances(ledger, wallet) == {"held": 100}


async def test_a_limit_lowered_below_use_refuses_and_a_raised_one_grants(ledger: Ledger) -> None:
    wallet = Wallet(usd={"total": 100})
    first = wallet.hold(80)
    await ledger.hold(first)
    wallet.usd["total"] = 50
    with pytest.raises(Refusal) as refused:
        await ledger.hold(wallet.hold(0))
    assert refused.value.free == 0
    assert await ledger.settle(first.id, 80, 0, 0, NOON, None) == Settled(80, 0, 0), "what was granted is paid"
    wallet.usd["total"] = 90
    await ledger.hold(wallet.hold(10))


async def test_a_caller_that_leaves_holds_nothing(ledger: Ledger) -> None:
    wallet = Wallet(usd={"total": 100})
    holds = [asyncio.create_task(ledger.hold(wallet.hold(10))) for _ in range(10)]
    await asyncio.sleep(0)
    for task in holds:
        task.cancel()
    await asyncio.gather(*holds, return_exceptions=True)
    await ledger.give_back(wallet.job(), NOON)  # takes its turn after the releases
    assert await balances(ledger, wallet) == {}


@pytest.mark.parametrize("amount", [-1, 2**53, 1.5])
async def test_what_is_no_amount_is_not_booked(ledger: Ledger, amount: int) -> None:
    wallet = Wallet()
    with pytest.raises(ValueError, match="is no amount"):
        await ledger.hold(wallet.hold(amount))
    hold = wallet.hold(10)
    await ledger.hold(hold)
    with pytest.raises(ValueError, match="is no amount"):
        await ledger.settle(hold.id, amount, 0, 0, NOON, None)
    assert await balances(ledger, wallet) == {"held": 10}


async def test_a_request_needs_accounts(ledger: Ledger) -> None:
    with pytest.raises(LedgerError, match="a request without accounts has no limits"):
        await ledger.hold(replace(Wallet().hold(1), accounts=()))


async def test_usage_of_a_job(ledger: Ledger) -> None:
    wallet = Wallet()
    holds: list[Hold] = [wallet.hold(100, tokens=50) for _ in range(4)]
    await ledger.reserve(wallet.job(), wallet.accounts(), Need(100, 50, 1000, 1000, 500, 500), NOON)
    for hold in holds:
        await ledger.hold(hold)
    await ledger.settle(holds[0].id, 30, 3, 4, NOON, None)
    await ledger.settle(holds[1].id, 110, 5, 6, NOON, None)
    await ledger.doubt(holds[2].id, NOON, Why.STREAM_CUT)
    await ledger.mark_hit(wallet.job(), 30, NOON)
    usage = await ledger.usage(wallet.job())
    assert usage == JobUsage(
        requests=4, hits=1, tokens_in=8, tokens_out=10, settled=130, held=100, in_doubt=100, reserved=usage.reserved, overrun=10, saved=30,
        answers=2, total=140, squares=30.0**2 + 110.0**2,
    )  # fmt: skip
    assert await ledger.saved(wallet.budget) == 30
    assert set(astuple(await ledger.usage(wallet.job("unknown")))) == {0}

"""What a ledger that is opened again makes of what its predecessor left, and who may write."""

import asyncio
from datetime import timedelta

import pytest
from sqlalchemy import event
from sqlalchemy.exc import OperationalError
from tests.contract.ledger.conftest import Open
from tests.contract.ledger.test_holds import balances
from tests.unit.ledger.wallet import NOON, Wallet, answer

from distillery.gateway.ledger import Fenced, HoldResolved, Ledger, LedgerError, Need, Refusal, Unavailable, Why, writer

LATER = NOON + timedelta(seconds=61)


async def test_what_was_dispatched_is_in_doubt_after_a_restart(opened: Open) -> None:
    wallet = Wallet(usd={"total": 100})
    first = await opened()
    sent, paid = wallet.hold(60), wallet.hold(40)
    await first.hold(sent)
    await first.hold(paid)
    await first.settle(paid.id, 10, 1, 1, NOON, answer(paid.request_key))
    await first.close()
    second = await opened(LATER)
    assert await balances(second, wallet) == {"settled": 10, "in_doubt": 60}
    await second.settle(sent.id, 20, 1, 1, LATER, None)
    assert await balances(second, wallet) == {"settled": 30}, "the bill told what it was"


async def test_reservations_and_answers_outlive_a_restart(opened: Open) -> None:
    wallet = Wallet(usd={"total": 1000})
    first = await opened()
    await first.reserve(wallet.job(), wallet.accounts(), Need(100, 0, 2000, 2000), NOON)
    hold = wallet.hold(100)
    await first.hold(hold)
    await first.settle(hold.id, 7, 3, 4, NOON, answer("k", b"body" * 100, "truncated"))
    await first.close()
    second = await opened(LATER)
    found = await second.answer("k")
    assert found is not None
    assert (found.body, found.finish, found.hold, found.cost, found.tokens_in, found.tokens_out, found.budget, found.teacher, found.at) == (
        b"body" * 100, "truncated", hold.id, 7, 3, 4, wallet.budget, "gpt", NOON,
    )  # fmt: skip
    assert await balances(second, wallet) == {"settled": 7, "reserved": 493}


async def test_the_first_answer_of_a_key_stays_and_can_be_moved(ledger: Ledger) -> None:
    wallet = Wallet()
    for body in (b"first", b"second"):
        hold = wallet.hold(1)
        await ledger.hold(hold)
        await ledger.settle(hold.id, 1, 0, 0, NOON, answer("k", body))
    [found] = await ledger.unmoved(10)
    assert found == await ledger.answer("k")
    assert found.body == b"first"
    await ledger.moved("k", found.hold, "s3://cache/k")
    assert await ledger.unmoved(10) == []
    moved = await ledger.answer("k")
    assert moved is not None
    assert (moved.body, moved.location, moved.digest) == (None, "s3://cache/k", found.digest)
    assert await ledger.answer("unknown") is None


async def test_bodies_are_moved_in_batches_that_fit_in_memory(ledger: Ledger) -> None:
    """With 64 answers of 64 MiB waiting the gateway would need 4 GiB."""
    wallet = Wallet()
    for number, length in enumerate((10, 5000, 10, 10, 10)):
        hold = wallet.hold(1)
        await ledger.hold(hold)
        await ledger.settle(hold.id, 1, 0, 0, NOON + timedelta(seconds=number), answer(f"k{number}", b"x" * length))
    seen = []
    while found := await ledger.unmoved(3, 1000):
        seen.append([one.key for one in found])
        for one in found:
            await ledger.moved(one.key, one.hold, f"s3://cache/{one.key}")
    assert seen == [["k0", "k1"], ["k2", "k3", "k4"]]


async def test_an_answer_that_is_lost_is_bought_again(ledger: Ledger) -> None:
    wallet = Wallet()
    for body in (b"lost", b"bought again"):
        hold = wallet.hold(1)
        await ledger.hold(hold)
        await ledger.settle(hold.id, 1, 0, 0, NOON, answer("key", body))
        found = await ledger.answer("key")
        assert found is not None
        assert found.body == body
        for _ in range(2):
            await ledger.forget("key", hold.id, NOON, Why.BODY_GONE)
        assert await ledger.answer("key") is None


async def test_a_late_word_about_a_lost_answer_leaves_the_one_that_was_bought_since(ledger: Ledger) -> None:
    """Who found it lost, or was moving its body, may come after it was forgotten and bought again."""
    wallet, holds = Wallet(), list[str]()
    for body in (b"first", b"second"):
        hold = wallet.hold(1)
        holds.append(hold.id)
        await ledger.hold(hold)
        await ledger.settle(hold.id, 1, 0, 0, NOON, answer("key", body))
        if body == b"first":
            await ledger.forget("key", hold.id, NOON, Why.BODY_DAMAGED)
    await ledger.moved("key", holds[0], "s3://cache/first")
    await ledger.forget("key", holds[0], NOON, Why.BODY_GONE)
    found = await ledger.answer("key")
    assert found is not None
    assert (found.body, found.location, found.hold) == (b"second", None, holds[1])


async def test_on_sqlite_the_newest_gateway_fences_the_others(url: str, opened: Open) -> None:
    if not url.startswith("sqlite"):
        pytest.skip("replicas on Postgres take turns")
    wallet = Wallet(usd={"total": 100})
    old, new = await opened(), await opened()
    hold = wallet.hold(10)
    with pytest.raises(Fenced, match="gateway 2 has opened this ledger after gateway 1"):
        await old.hold(hold)
    with pytest.raises(Fenced):
        await old.sweep(NOON)
    assert old.fenced
    await new.hold(hold)
    assert not new.fenced


async def test_on_postgres_replicas_share_limits_and_know_who_is_dead(url: str, opened: Open) -> None:
    if url.startswith("sqlite"):
        pytest.skip("one gateway at a time writes SQLite")
    wallet = Wallet(usd={"total": 100})
    one, two = await opened(), await opened()
    first, second = wallet.hold(50), wallet.hold(50)
    await one.hold(first)
    await two.hold(second)
    with pytest.raises(Refusal):
        await one.hold(wallet.hold(1))
    await two.settle(second.id, 50, 0, 0, NOON, None)
    assert (await two.sweep(NOON + timedelta(seconds=59))).doubted == 0, "the other one may live"
    assert (await two.sweep(LATER)).doubted == 1
    await one.settle(first.id, 5, 0, 0, LATER, None)
    assert await balances(one, wallet) == {"settled": 55}, "it was only slow"
    await one.hold(wallet.hold(1))
    assert (await two.sweep(NOON - timedelta(days=1))).doubted == 1, "seen tomorrow: the clock was set back, it will not be seen again"


def _failing(ledger: Ledger, times: int) -> None:
    """The next transactions fail before they are committed."""
    left = [times]

    @event.listens_for(ledger._engines[0], "commit")
    def fail(_connection: object) -> None:
        if left[0]:
            left[0] -= 1
            raise OperationalError("COMMIT", {}, Exception("disk full"))


async def test_a_short_outage_goes_unnoticed(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writer, "RETRIES", (0, 0))
    wallet = Wallet(usd={"total": 100})
    _failing(ledger, 2)
    await ledger.hold(wallet.hold(100))
    assert await balances(ledger, wallet) == {"held": 100}


async def test_after_an_outage_nothing_is_held_by_the_refused_and_what_was_billed_is_booked(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writer, "RETRIES", ())
    wallet = Wallet(usd={"total": 100})
    paid, never = wallet.hold(60), wallet.hold(40)
    await ledger.hold(paid)
    _failing(ledger, 2)
    with pytest.raises(Unavailable, match="disk full"):
        await ledger.settle(paid.id, 25, 1, 1, NOON, answer("k"))
    with pytest.raises(Unavailable, match="disk full"):
        await ledger.hold(never)
    await ledger.hold(wallet.hold(75))
    assert await balances(ledger, wallet) == {"settled": 25, "held": 75}
    assert await ledger.answer("k") is not None
    with pytest.raises(HoldResolved):
        await ledger.release(never.id, NOON, Why.NOT_SENT)


async def test_a_value_that_the_database_refuses_does_not_hurt_others(ledger: Ledger) -> None:
    wallet = Wallet(usd={"total": 2**70})
    other = Wallet(usd={"total": 100}, budget="team-b/main")
    outcomes = await asyncio.gather(ledger.hold(wallet.hold(1)), ledger.hold(other.hold(100)), return_exceptions=True)
    assert isinstance(outcomes[0], LedgerError)
    assert outcomes[1] is None
    assert await balances(ledger, other) == {"held": 100}

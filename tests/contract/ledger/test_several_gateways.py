"""Several gateways on one Postgres: each question is asked once, and each knows its share of the limits. A file has one gateway."""

from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path

import pytest
from tests.contract.ledger.test_holds import balances
from tests.unit.ledger.wallet import NOON, Wallet, answer

from distillery.gateway.ledger import AskedElsewhere, Hold, Ledger, Why


def asks(wallet: Wallet, key: str) -> Hold:
    hold = wallet.hold(10)
    return Hold(hold.id, hold.budget, hold.job_uid, hold.teacher, 10, 0, hold.accounts, key, NOON, hold.terms, hold.prices)


@pytest.fixture
async def two(database: str) -> AsyncIterator[tuple[Ledger, Ledger]]:
    first, second = await Ledger.open(database, NOON), await Ledger.open(database, NOON)
    yield first, second
    await first.close()
    await second.close()


async def test_of_two_that_want_to_ask_one_holds(two: tuple[Ledger, Ledger]) -> None:
    (first, second), wallet = two, Wallet(usd={"total": 1000})
    hold = asks(wallet, "k")
    await first.hold(hold)
    assert await second.asked_elsewhere("k") == hold.id
    assert await first.asked_elsewhere("k") is None
    with pytest.raises(AskedElsewhere) as caught:
        await second.hold(asks(wallet, "k"))
    assert caught.value.hold == hold.id
    assert await balances(second, wallet) == {"held": 10}
    await first.settle(hold.id, 5, 1, 1, NOON, answer("k"))
    with pytest.raises(AskedElsewhere) as caught:
        await second.hold(asks(wallet, "k"))
    assert (caught.value.hold, await second.state(hold.id)) == (None, "settled")
    assert await balances(second, wallet) == {"settled": 5}


@pytest.mark.parametrize("ended", ["released", "inDoubt"])
async def test_a_question_without_an_answer_may_be_asked_by_the_other(two: tuple[Ledger, Ledger], ended: str) -> None:
    (first, second), wallet = two, Wallet(usd={"total": 1000})
    hold = asks(wallet, "k")
    await first.hold(hold)
    await (first.release(hold.id, NOON, Why.BUSY) if ended == "released" else first.doubt(hold.id, NOON, Why.TIMEOUT))
    assert await second.state(hold.id) == ended
    await second.hold(asks(wallet, "k"))


async def test_what_a_dead_gateway_asked_lapses(two: tuple[Ledger, Ledger]) -> None:
    (first, second), wallet = two, Wallet(usd={"total": 1000})
    hold = asks(wallet, "k")
    await first.hold(hold)
    await second.sweep(NOON + timedelta(seconds=59))
    assert await second.state(hold.id) == "dispatched"
    await second.sweep(NOON + timedelta(seconds=61))
    assert await second.state(hold.id) == "inDoubt"
    await second.hold(asks(wallet, "k"))


async def test_the_share_of_a_newcomer_is_nothing_until_all_know_it(database: str) -> None:
    """So that the sum of all shares is never more than the whole, however late one hears of another."""

    async def share(ledger: Ledger, seconds: float) -> float:
        return (await ledger.sweep(NOON + timedelta(seconds=seconds))).share

    first = await Ledger.open(database, NOON)
    assert await share(first, 1) == 1.0
    second = await Ledger.open(database, NOON + timedelta(seconds=2))
    assert await share(second, 3) == 0.0
    assert await share(first, 4) == 0.5
    assert await share(second, 4) == 0.5
    third = await Ledger.open(database, NOON + timedelta(seconds=5))
    assert await share(first, 6) == pytest.approx(1 / 3)
    assert await share(third, 6) == 0.0
    assert await share(second, 7) == pytest.approx(1 / 3)
    assert await share(third, 7) == pytest.approx(1 / 3)
    await third.close()
    assert [await share(first, 8), await share(second, 8)] == [0.5, 0.5], "who ends leaves its share at once"
    # the second is killed: it says nothing more
    assert await share(first, 37) == 0.5
    assert await share(first, 39) == 1.0
    fourth = await Ledger.open(database, NOON + timedelta(seconds=40))
    assert await share(first, 40) == 0.5
    assert await share(fourth, 40) == 0.5
    await fourth.close()
    await first.close()
    await second.close()


async def test_who_is_dead_stops_no_newcomer_for_long(database: str) -> None:
    first = await Ledger.open(database, NOON)
    second = await Ledger.open(database, NOON + timedelta(seconds=2))
    assert (await second.sweep(NOON + timedelta(seconds=4))).share == 0.0
    assert (await second.sweep(NOON + timedelta(seconds=6))).share == 0.5, "it may have been stuck: its part stays its own for a while"
    assert (await second.sweep(NOON + timedelta(seconds=31))).share == 1.0
    await second.close()
    await first.close()


async def test_a_file_has_one_gateway_and_no_such_questions(tmp_path: Path) -> None:
    ledger, wallet = await Ledger.open(f"sqlite:///{tmp_path}/ledger.db", NOON), Wallet(usd={"total": 1000})
    hold = asks(wallet, "k")
    await ledger.hold(hold)
    assert await ledger.asked_elsewhere("k") is None
    await ledger.settle(hold.id, 5, 1, 1, NOON, answer("k"))
    await ledger.hold(asks(wallet, "k"))
    assert (await ledger.sweep(NOON)).share == 1.0
    await ledger.close()

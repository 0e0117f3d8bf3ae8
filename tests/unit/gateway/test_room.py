"""Bytes in flight have a bound, and one namespace's flood leaves room for another's."""

import asyncio
import gc

import pytest
from tests.unit.gateway.conftest import Gate
from tests.unit.gateway.teacher_double import answers, raw, waits

from distillery.gateway.errors import Refused
from distillery.gateway.flights import Served
from distillery.gateway.room import Room


@pytest.mark.looptime
async def test_the_sum_is_never_above_the_bound_and_who_waits_goes_in_order() -> None:
    room, gone = Room(100, patience=1e6), []

    async def one(name: str, owner: str, size: int) -> None:
        with await room.take(owner, size):
            gone.append(name)
            await asyncio.sleep(1)

    await asyncio.gather(*(one(f"{owner}{number}", owner, 30) for number in range(5) for owner in "ab"))
    assert room.highest <= 100
    assert sorted(gone) == sorted(f"{owner}{number}" for number in range(5) for owner in "ab")
    assert room.used == 0


@pytest.mark.looptime
async def test_one_namespace_has_three_quarters_at_most_and_holds_up_no_other() -> None:
    room = Room(100)
    held = [await room.take("a", 25) for _ in range(3)]
    waiting = asyncio.create_task(room.take("a", 25))
    await asyncio.sleep(0)
    with await room.take("b", 25):
        assert room.used == 100
    assert not waiting.done()
    held[0].release()
    with await waiting:
        assert room.used == 75


@pytest.mark.looptime
async def test_a_large_one_is_not_passed_by_small_ones_for_ever() -> None:
    room = Room(100, patience=1e6)
    first = await room.take("a", 60)
    large = asyncio.create_task(room.take("b", 50))
    await asyncio.sleep(0)
    small = asyncio.create_task(room.take("c", 20))
    await asyncio.sleep(0)
    assert (large.done(), small.done()) == (False, False)
    first.release()
    (await large).release()
    (await small).release()


@pytest.mark.looptime
async def test_who_waits_too_long_is_sent_away_and_takes_nothing() -> None:
    room = Room(100)
    held = await room.take("a", 75)
    with pytest.raises(Refused) as told:
        await room.take("a", 75)
    assert (told.value.status, told.value.retry_after) == (503, 2.0)
    with pytest.raises(Refused):
        room.grab("b", 75)
    held.release()
    room.grab("b", 75).release()
    assert room.used == 0


async def test_an_answer_takes_room_as_long_as_somebody_has_it() -> None:
    room = Room(100)
    served: Served | None = Served(b"x", 1, "", "miss").keeping(room.grab("a", 50))
    assert room.used == 50
    del served
    gc.collect()
    assert room.used == 0


async def test_a_body_that_is_too_long_or_holds_too_much_is_refused_before_it_is_parsed(gate: Gate) -> None:
    long = await gate.ask("x" * 2**20)
    assert long.status == 413
    for content in (b"[" * 60_000 + b"]" * 60_000, b'{"messages":[' + b"{}," * 60_000 + b"{}]}", b"[" * 100 + b"]" * 100):
        told = await gate.request("POST", "/v1/chat/completions", "pod:nlp/arith/traces", data=content)
        assert (told.status, told.code) == (400, "invalid_request_error")
        assert "are taken" in told.json["error"]["message"]
    assert not gate.teacher.bodies


async def test_brackets_and_commas_in_a_text_are_no_values(gate: Gate) -> None:
    assert (await gate.ask('{[,:"\\' * 20_000)).status == 200


async def test_an_answer_that_is_too_long_or_holds_too_much_is_not_parsed(gate: Gate) -> None:
    for content in (b'{"choices":[' + b"0," * 5_000_000 + b"0]}", b'{"choices":[' + b"{}," * 1_500_000 + b"{}]}", b"[" * 500 + b"]" * 500):
        gate.teacher.script.append(raw(content))
        told = await gate.ask(str(len(content)))
        assert (told.status, told.code) == (502, "in_doubt")
        assert "gateway.inFlight.answerMiB" in told.json["error"]["message"]


async def test_large_answers_take_room_until_they_are_written(gate: Gate) -> None:
    questions, room = gate.asking.rooms
    may = asyncio.Event()
    gate.teacher.otherwise = waits(may, answers("y" * 300_000))
    tasks = [asyncio.create_task(gate.ask("x" * 100_000 + str(number))) for number in range(3)]
    await gate.teacher.arrived.wait()
    assert questions.used > 0
    may.set()
    assert {reply.status for reply in await asyncio.gather(*tasks)} == {200}
    assert room.highest >= 300_000
    assert max(questions.highest, room.highest) <= room.total
    assert (await gate.ask("x" * 100_000 + "0")).cache == "hit"
    del tasks
    gc.collect()
    assert (questions.used, room.used) == (0, 0)


async def test_a_turn_that_comes_at_the_very_moment_of_leaving_takes_nothing() -> None:
    room = Room(100)
    first = await room.take("a", 60)
    waiting = asyncio.create_task(room.take("b", 60))
    await asyncio.sleep(0)
    first.release()
    # its turn came, and it has not heard of it yet
    assert room.used == 60
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert room.used == 0


@pytest.mark.looptime
async def test_a_turn_that_comes_with_the_end_of_patience_takes_nothing() -> None:
    room = Room(100, patience=10)
    first = await room.take("a", 60)
    waiting = asyncio.create_task(room.take("b", 60))
    await asyncio.sleep(0)
    asyncio.get_running_loop().call_at(asyncio.get_running_loop().time() + 10, first.release)
    with pytest.raises(Refused):
        await waiting
    assert room.used == 0

"""A bound that is wrong costs one answer: until it is proved requests go one by one, and each is judged when its turn has come."""

import asyncio

from tests.unit.gateway.conftest import Gate, job, teacher_spec
from tests.unit.gateway.teacher_double import answers, waits

from distillery.api.budget import BudgetTeacher


async def until_waiting(gate: Gate, count: int) -> None:
    """Until so many requests wait for a turn."""
    limits = gate.asking.teachers.of("nlp/team-a", BudgetTeacher.model_validate(teacher_spec(gate.teacher_url))).limits
    while limits.waiting < count:
        await asyncio.sleep(0)


async def test_an_overrun_is_caught_by_the_second_request(gate: Gate) -> None:
    gate.teacher.otherwise = answers(usage={"prompt_tokens": 10, "completion_tokens": 100_000, "total_tokens": 100_010})
    replies = await asyncio.gather(*(gate.ask(f"{number}?") for number in range(60)))
    assert len(gate.teacher.bodies) == 1
    assert sorted(reply.status for reply in replies) == [200, *[429] * 59]
    assert {reply.code for reply in replies if reply.status != 200} == {"overrun"}


async def test_a_teacher_begins_with_one_and_has_all_after_some_answers(gate: Gate) -> None:
    may = asyncio.Event()
    gate.teacher.otherwise = waits(may)
    tasks = [asyncio.create_task(gate.ask(f"{number}?")) for number in range(10)]
    await gate.teacher.arrived.wait()
    await until_waiting(gate, 9)
    assert len(gate.teacher.bodies) == 1
    may.set()
    assert {reply.status for reply in await asyncio.gather(*tasks)} == {200}


async def test_a_request_is_judged_when_its_turn_has_come(gate: Gate) -> None:
    may = asyncio.Event()
    gate.teacher.otherwise = waits(may)
    first = asyncio.create_task(gate.ask("1?"))
    await gate.teacher.arrived.wait()
    waiting = [asyncio.create_task(gate.ask(f"{number}?")) for number in range(2, 6)]
    await until_waiting(gate, 4)
    gate.limits(total="0.0000001")
    may.set()
    assert (await first).status == 200
    assert {reply.code for reply in await asyncio.gather(*waiting)} == {"budget_exhausted"}
    assert len(gate.teacher.bodies) == 1


async def test_a_job_that_was_suspended_while_a_request_waited_buys_nothing_more(gate: Gate) -> None:
    may = asyncio.Event()
    gate.teacher.otherwise = waits(may)
    first = asyncio.create_task(gate.ask("1?"))
    await gate.teacher.arrived.wait()
    second = asyncio.create_task(gate.ask("2?"))
    await until_waiting(gate, 1)
    gate.objects.apply({**job(), "spec": {**job()["spec"], "suspend": True}})
    gate.time.forward(seconds=10)
    may.set()
    assert (await first).status == 200
    told = await second
    assert (told.status, told.code) == (403, "suspended")
    assert len(gate.teacher.bodies) == 1


async def test_a_teacher_that_was_exchanged_while_a_request_waited_is_not_asked_by_it(gate: Gate) -> None:
    may = asyncio.Event()
    gate.teacher.otherwise = waits(may)
    first = asyncio.create_task(gate.ask("1?"))
    await gate.teacher.arrived.wait()
    second = asyncio.create_task(gate.ask("2?"))
    await until_waiting(gate, 1)
    known = gate.objects.budgets["nlp", "team-a"]
    teachers = [teacher_spec(gate.teacher_url, model="gpt-x-2026-02-02")]
    gate.objects.apply({**known, "spec": {**known["spec"], "teachers": teachers}})
    gate.time.forward(seconds=10)
    may.set()
    assert (await first).status == 200
    told = await second
    assert (told.status, told.headers["Retry-After"]) == (503, "1")
    assert (await gate.ask("2?")).status == 200
    assert [body["model"] for body in gate.teacher.bodies] == ["gpt-x-2026-01-01", "gpt-x-2026-02-02"]

"""A bound that is wrong costs one answer: until it is proved requests go one by one, and each is judged when its turn has come."""

import asyncio

from tests.unit.gateway.conftest import Gate, Reply, budget, job, teacher_spec
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


async def one_asked_others_waiting(gate: Gate, others: int) -> tuple[asyncio.Event, asyncio.Task[Reply], list[asyncio.Task[Reply]]]:
    """The teacher has one request until the event is set, and so many wait for their turn."""
    may = asyncio.Event()
    gate.teacher.otherwise = waits(may)
    first = asyncio.create_task(gate.ask("1?"))
    await gate.teacher.arrived.wait()
    waiting = [asyncio.create_task(gate.ask(f"{number}?")) for number in range(2, 2 + others)]
    await until_waiting(gate, others)
    return may, first, waiting


async def test_a_request_is_judged_when_its_turn_has_come(gate: Gate) -> None:
    may, first, waiting = await one_asked_others_waiting(gate, 4)
    gate.limits(total="0.0000001")
    may.set()
    assert (await first).status == 200
    assert {reply.code for reply in await asyncio.gather(*waiting)} == {"budget_exhausted"}
    assert len(gate.teacher.bodies) == 1


async def test_a_job_that_was_suspended_while_a_request_waited_buys_nothing_more(gate: Gate) -> None:
    may, first, [second] = await one_asked_others_waiting(gate, 1)
    gate.objects.apply({**job(), "spec": {**job()["spec"], "suspend": True}})
    gate.time.forward(seconds=10)
    may.set()
    assert (await first).status == 200
    told = await second
    assert (told.status, told.code) == (403, "suspended")
    assert len(gate.teacher.bodies) == 1


async def test_a_run_that_was_superseded_while_a_request_waited_buys_nothing_more(gate: Gate) -> None:
    may, first, [second] = await one_asked_others_waiting(gate, 1)
    stages = [{"name": "traces", "state": "Running", "jobName": "arith-traces-abcdef-2"}]
    gate.objects.apply({**job(), "status": {"budgetClaimed": True, "stages": stages}})
    gate.time.forward(seconds=10)
    may.set()
    assert (await first).status == 200
    told = await second
    assert (told.status, told.code) == (403, "another_run")
    assert len(gate.teacher.bodies) == 1


async def test_a_worst_case_that_no_ledger_counts_is_refused_by_name(gate: Gate) -> None:
    known = gate.objects.budgets["nlp", "team-a"]
    dear = {"inputPerMillion": "1.00", "outputPerMillion": "999999999"}
    gate.objects.apply(
        {**known, "spec": {**known["spec"], "teachers": [teacher_spec(gate.teacher_url, prices=dear, maxCompletionTokens=1000000)]}}
    )
    for _ in range(2):
        told = await gate.ask(max_completion_tokens=1_000_000, n=64)
        assert (told.status, told.json["error"]["param"]) == (400, "max_completion_tokens")
    gate.objects.apply(known)
    gate.time.forward(seconds=10)
    assert (await gate.ask()).status == 200


async def test_a_teacher_that_was_exchanged_while_a_request_waited_is_not_asked_by_it(gate: Gate) -> None:
    may, first, [second] = await one_asked_others_waiting(gate, 1)
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


async def test_a_prompt_that_counts_more_than_its_bound_stops_the_teacher_and_names_the_field(gate: Gate) -> None:
    # the answer is short, so that the money held is enough all the same
    gate.teacher.otherwise = answers(usage={"prompt_tokens": 60, "completion_tokens": 1, "total_tokens": 61})
    gate.objects.apply(budget(gate.teacher_url, teachers=[teacher_spec(gate.teacher_url, templateTokens=10)]))
    gate.time.forward(seconds=10)
    assert (await gate.ask("1?")).status == 200
    told = await gate.ask("2?")
    assert (told.status, told.code) == (429, "overrun")
    # 60 - 16 for the message - 4 and 2 bytes of role and text
    assert 'spec.teachers["gpt-x"].templateTokens of TeacherBudget "nlp/team-a"' in told.json["error"]["message"]
    assert told.json["error"]["message"].endswith("set it to 38 or more")
    snapshot = (await gate.request("GET", "/v1/budgets/nlp/team-a")).json
    assert [alert.partition(":")[0] for alert in snapshot["alerts"]] == ["overrun"]
    path = "/v1/reservations/nlp/arith/uid-arith"
    refused = await gate.request("PUT", path, json={"requests": 9, "longestPromptBytes": 2})
    assert (refused.json["state"], refused.json["reason"]) == ("Refused", "Overrun")
    gate.objects.apply(budget(gate.teacher_url, teachers=[teacher_spec(gate.teacher_url, templateTokens=38)]))
    gate.time.forward(seconds=10)
    assert (await gate.ask("2?")).status == 200
    assert (await gate.ask("3?")).status == 200


async def test_the_bound_of_a_template_is_no_part_of_an_answers_identity(gate: Gate) -> None:
    assert (await gate.ask("1?")).cache == "miss"
    gate.objects.apply(budget(gate.teacher_url, teachers=[teacher_spec(gate.teacher_url, templateTokens=5000)]))
    gate.time.forward(seconds=10)
    assert (await gate.ask("1?")).cache == "hit"

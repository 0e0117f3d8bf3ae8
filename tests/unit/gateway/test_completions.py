"""One query, from the pod to the teacher and back: what the teacher sees, what the pod gets, what the ledger has."""

import asyncio
import json
from typing import Any

import pytest
from tests.unit.gateway.conftest import Gate, Reply, budget, job
from tests.unit.gateway.teacher_double import answers, cut_stream, drops, raw, status, waits

#: 10 tokens in at 1 USD and 2 out at 4 USD per million, in nano-dollars.
COST = 10 * 1000 + 2 * 4000


async def test_an_answer_is_bought_once_and_then_given(gate: Gate) -> None:
    bought, again = await gate.ask(), await gate.ask()
    assert (bought.status, bought.cache, bought.headers["X-Distillery-Cost"]) == (200, "miss", str(COST))
    assert (again.status, again.cache, again.headers["X-Distillery-Cost"]) == (200, "hit", "0")
    assert bought.json == again.json
    assert bought.headers["X-Distillery-Answer"] == again.headers["X-Distillery-Answer"]
    assert bought.headers["X-Distillery-Terms"] == "self-hosted,apache-2.0"
    assert len(gate.teacher.bodies) == 1
    used = await gate.usage()
    assert (used.requests, used.hits, used.settled, used.saved, used.held) == (1, 1, COST, COST, 0)


async def test_the_teacher_sees_its_own_model_the_key_the_bound_and_the_hold(gate: Gate) -> None:
    await gate.ask(temperature=0.5)
    body, headers = gate.teacher.bodies[0], gate.teacher.headers[0]
    assert (body["model"], body["max_completion_tokens"], body["n"], body["temperature"]) == ("gpt-x-2026-01-01", 50, 1, 0.5)
    assert headers["Authorization"] == "Bearer sk-secret"
    entries = await gate.asking.ledger.entries(0, 100)
    assert any(json.loads(line)["entry"].get("hold") == headers["X-Client-Request-Id"] for line in entries)


async def test_the_bound_of_an_answer_is_put_in_and_lowered(gate: Gate) -> None:
    await gate.ask("a", max_completion_tokens=None)
    await gate.ask("b", max_completion_tokens=100_000)
    await gate.ask("c", max_completion_tokens=None, max_tokens=7)
    assert [body["max_completion_tokens"] for body in gate.teacher.bodies] == [100, 100, 7]


async def test_samples_of_the_same_question_are_bought_each(gate: Gate) -> None:
    replies = [await gate.ask(headers={"X-Distillery-Sample": str(k)}) for k in (0, 1, 1)]
    assert [reply.cache for reply in replies] == ["miss", "miss", "hit"]


async def test_identical_questions_at_the_same_time_are_one(gate: Gate) -> None:
    may = asyncio.Event()
    gate.teacher.otherwise = waits(may)
    asked = [asyncio.create_task(gate.ask()) for _ in range(20)]
    await gate.teacher.arrived.wait()
    may.set()
    replies = await asyncio.gather(*asked)
    assert sorted(reply.cache for reply in replies).count("miss") == 1
    assert {reply.cache for reply in replies} <= {"miss", "joined", "hit"}
    assert len(gate.teacher.bodies) == 1
    assert (await gate.usage()).settled == COST


async def test_an_answer_is_kept_although_the_client_went_away(gate: Gate) -> None:
    may = asyncio.Event()
    gate.teacher.script.append(waits(may))
    asked = asyncio.create_task(gate.ask())
    await gate.teacher.arrived.wait()
    asked.cancel()
    may.set()
    assert (await gate.ask()).cache in ("joined", "hit")
    assert len(gate.teacher.bodies) == 1


async def test_a_joined_job_buys_for_itself_where_the_first_one_may_not(gate: Gate) -> None:
    """The budget of whoever asked first is no reason to refuse another."""
    gate.objects.apply(budget(gate.teacher_url, {"total": "0.000001"}, name="poor"))
    gate.objects.apply(job("poor", "poor"))
    refused, bought = await asyncio.gather(gate.ask(token="pod:nlp/poor/traces"), gate.ask())
    assert (refused.status, refused.code) == (429, "budget_exhausted")
    assert bought.status == 200


async def in_vision(gate: Gate, **more: Any) -> Reply:
    """The same question from a job of another namespace, to the same teacher with the same credential."""
    gate.asking.law.credentials._by_name["openai"].entry.namespaces[:] = ["nlp", "vision"]
    for body in (budget(gate.teacher_url, **more), job()):
        gate.objects.apply({**body, "metadata": {**body["metadata"], "namespace": "vision"}})
    return await gate.ask(token="pod:vision/arith/traces")


async def test_namespaces_do_not_share_answers(gate: Gate) -> None:
    assert [(await gate.ask()).cache, (await in_vision(gate)).cache] == ["miss", "miss"]


async def test_namespaces_share_where_both_say_so_and_the_chart_permits_it(gate: Gate) -> None:
    gate.asking.law.shared_cache.update(("nlp", "vision"))  # type: ignore[attr-defined]
    shared = {"cache": {"scope": "shared"}}
    gate.objects.apply(budget(gate.teacher_url, **shared))
    bought, given, kept_apart = await gate.ask(), await in_vision(gate, **shared), await gate.ask("other")
    assert [bought.cache, given.cache, kept_apart.cache] == ["miss", "hit", "miss"]
    assert given.headers["X-Distillery-Cost"] == "0"
    gate.time.forward(seconds=10)
    assert (await in_vision(gate)).cache == "miss"


OUTCOMES = [
    # behaviour, status and code told, settled, in doubt
    (answers(), 200, None, COST, False),
    (answers(usage={"prompt_tokens": 5, "completion_tokens": 1}), 200, None, 9000, False),
    (answers(usage={"prompt_tokens": 5, "completion_tokens": 1, "total_tokens": 9}), 200, None, 21000, False),
    (answers(usage={}), 502, "in_doubt", 0, True),
    (answers(usage={"prompt_tokens": -5, "completion_tokens": 1}), 502, "in_doubt", 0, True),
    (answers(usage={"prompt_tokens": 5, "completion_tokens": 1, "prompt_tokens_details": 7}), 502, "in_doubt", 0, True),
    (raw(b"<html>"), 502, "in_doubt", 0, True),
    (raw(b"[]"), 502, "in_doubt", 0, True),
    (raw(json.dumps({"usage": {"prompt_tokens": 5, "completion_tokens": 1}, "choices": []}).encode()), 502, "teacher_failed", 9000, False),
    (drops, 502, "in_doubt", 0, True),
    (status(500), 502, "in_doubt", 0, True),
    (status(502), 502, "in_doubt", 0, True),
    (status(504), 502, "in_doubt", 0, True),
    (status(408), 502, "in_doubt", 0, True),
    (status(400), 502, "teacher_failed", 0, False),
    (status(422), 502, "teacher_failed", 0, False),
    (status(429), 429, "rate_limit_exceeded", 0, False),
    (status(429, error_code="insufficient_quota"), 503, "teacher_unavailable", 0, False),
    (status(401), 503, "teacher_unavailable", 0, False),
    (status(403), 503, "teacher_unavailable", 0, False),
    (status(404), 503, "teacher_unavailable", 0, False),
    (status(503), 503, "teacher_unavailable", 0, False),
    (status(529), 503, "teacher_unavailable", 0, False),
    (status(302, headers={"Location": "http://127.0.0.1:1/"}), 503, "teacher_unavailable", 0, False),
]


@pytest.mark.parametrize(("behaviour", "told", "code", "settled", "doubt"), OUTCOMES)
async def test_every_outcome_ends_the_hold_in_one_way(
    gate: Gate, behaviour: object, told: int, code: str | None, settled: int, doubt: bool
) -> None:
    gate.teacher.script.append(behaviour)  # type: ignore[arg-type]
    reply = await gate.ask()
    assert (reply.status, None if reply.status == 200 else reply.code) == (told, code)
    window = await gate.window()
    assert (window.settled, window.held, window.in_doubt > 0, window.overrun) == (settled, 0, doubt, 0)
    assert len(gate.teacher.bodies) == 1


@pytest.mark.parametrize("behaviour", [drops, status(500), answers(usage={})])
async def test_what_is_in_doubt_is_no_answer_and_is_asked_again_with_another_hold(gate: Gate, behaviour: object) -> None:
    gate.teacher.script.append(behaviour)  # type: ignore[arg-type]
    assert (await gate.ask()).headers.get("x-should-retry") is None
    assert (await gate.ask()).cache == "miss"
    assert len({headers["X-Client-Request-Id"] for headers in gate.teacher.headers}) == 2


async def test_a_teacher_that_cannot_be_reached_bills_nothing(gate: Gate) -> None:
    nowhere = "http://127.0.0.1:1/v1"
    gate.asking.law.credentials._by_name["openai"].entry.base_urls.append(nowhere)
    gate.objects.apply(budget(nowhere))
    gate.time.forward(seconds=10)
    reply = await gate.ask()
    assert (reply.status, reply.code, reply.headers["Retry-After"]) == (503, "teacher_unavailable", "2")
    window = await gate.window()
    assert (window.settled, window.held, window.in_doubt) == (0, 0, 0)


async def test_a_bill_above_the_hold_stops_the_budget(gate: Gate) -> None:
    gate.teacher.script.append(answers(usage={"prompt_tokens": 10, "completion_tokens": 90_000}))
    assert (await gate.ask()).status == 200
    assert (await gate.window()).overrun > 0
    gate.time.forward(seconds=2)
    reply = await gate.ask("something else")
    assert (reply.status, reply.code, reply.json["error"]["type"]) == (429, "overrun", "insufficient_quota")
    assert (await gate.ask()).cache == "hit"


async def test_an_exhausted_budget_says_which_window_and_when_it_resumes_and_a_raised_limit_heals(gate: Gate) -> None:
    gate.limits(daily="0.0005", total="5.00")
    assert (await gate.ask("a")).status == 200
    while (reply := await gate.ask(f"{gate.time.passed}")).status == 200:
        gate.time.forward(seconds=1)
    assert (reply.status, reply.code, reply.headers["x-should-retry"]) == (429, "budget_exhausted", "false")
    assert reply.headers["X-Distillery-Resumes"] == "2026-11-25T00:00:00Z"
    assert "daily 2026-11-24: the limit of 0.0005 USD has" in reply.json["error"]["message"]
    gate.limits(daily="0.01", total="5.00")
    assert (await gate.ask("b")).status == 200


async def test_a_window_that_ends_lets_the_job_go_on(gate: Gate) -> None:
    gate.limits(daily="0.00039")
    assert [(await gate.ask(text)).status for text in "ab"] == [200, 429]
    gate.time.forward(hours=12)
    assert (await gate.ask("b")).status == 200


async def test_a_pause_lets_kept_answers_through(gate: Gate) -> None:
    known = gate.objects.budgets["nlp", "team-a"]
    gate.objects.apply({**known, "spec": {**known["spec"], "limits": {"total": "0.001"}, "alerts": [{"at": "1%", "action": "pause"}]}})
    assert (await gate.ask()).status == 200
    gate.time.forward(seconds=10)
    reply = await gate.ask("another")
    assert (reply.status, reply.code) == (429, "budget_paused")
    assert (await gate.ask()).cache == "hit"


async def test_truncated_and_refused_answers_are_kept_and_marked(gate: Gate) -> None:
    gate.teacher.script.extend([answers(finish="length"), answers(finish="content_filter"), answers()])
    keys = [(await gate.ask(text)).headers["X-Distillery-Answer"] for text in "abc"]
    found = [await gate.asking.ledger.answer(key) for key in keys]
    assert [answer.finish for answer in found if answer] == ["truncated", "refused", "stop"]


async def test_a_stream_passes_through_and_is_kept_whole(gate: Gate) -> None:
    first = await gate.ask(stream=True)
    assert first.headers["Content-Type"] == "text/event-stream"
    events = [json.loads(line[6:]) for line in first.text.split("\n\n") if line.startswith("data: {")]
    assert "".join(event["choices"][0]["delta"].get("content", "") for event in events) == "42"
    assert all("usage" not in event for event in events)
    assert first.text.endswith("data: [DONE]\n\n")
    assert gate.teacher.bodies[0]["stream_options"] == {"include_usage": True}
    whole = await gate.ask()
    assert (whole.cache, whole.json["choices"][0]["message"]["content"], whole.json["usage"]["total_tokens"]) == ("hit", "42", 12)
    again = await gate.ask(stream=True, stream_options={"include_usage": True})
    assert again.cache == "hit"
    last = [json.loads(line[6:]) for line in again.text.split("\n\n") if line.startswith("data: {")][-1]
    assert last["usage"]["total_tokens"] == 12


@pytest.mark.parametrize(
    ("behaviour", "settled"),
    [
        (cut_stream(2), 0),
        (cut_stream(4), 0),  # all the text, no usage
        (answers(usage={}), 0),
        (cut_stream(5), COST),  # everything but [DONE]
    ],
)
async def test_a_stream_that_breaks_off_is_in_doubt_unless_it_told_all(gate: Gate, behaviour: object, settled: int) -> None:
    gate.teacher.script.append(behaviour)  # type: ignore[arg-type]
    reply = await gate.ask(stream=True)
    window = await gate.window()
    assert (window.settled, window.in_doubt > 0) == (settled, settled == 0)
    assert ('"code": "in_doubt"' in reply.text.replace('":"', '": "')) == (settled == 0)
    assert reply.text.endswith("data: [DONE]\n\n") == (settled > 0)


async def test_a_refusal_before_a_stream_is_a_plain_error(gate: Gate) -> None:
    gate.teacher.script.append(status(400, "too long"))
    reply = await gate.ask(stream=True)
    assert (reply.status, reply.code) == (502, "teacher_failed")
    assert "too long" in reply.json["error"]["message"]


async def test_several_answers_at_once_are_held_for_each(gate: Gate) -> None:
    reply = await gate.ask(n=3)
    assert [choice["message"]["content"] for choice in reply.json["choices"]] == ["42-0", "42-1", "42-2"]
    hold = next(json.loads(line)["entry"] for line in await gate.asking.ledger.entries(0, 100) if '"kind":"hold"' in line)
    assert hold["moves"][-1][2] >= 3 * 50 * 4000


async def test_plain_completions(gate: Gate) -> None:
    reply = await gate.ask("once upon", path="/v1/completions", max_completion_tokens=None, max_tokens=20)
    assert (reply.status, reply.json["choices"][0]["text"]) == (200, "42")
    assert gate.teacher.bodies[0]["max_tokens"] == 20
    assert (await gate.ask("once upon", path="/v1/completions", stream=True, max_completion_tokens=20)).cache == "hit"


async def test_the_key_is_read_again_when_it_was_renewed(gate: Gate) -> None:
    credential = gate.asking.law.credentials._by_name["openai"]
    await gate.ask("a")
    (credential._folder / "key").write_text("sk-new")
    gate.time.forward(seconds=6)
    await gate.ask("b")
    assert [headers["Authorization"] for headers in gate.teacher.headers] == ["Bearer sk-secret", "Bearer sk-new"]


async def test_a_teacher_that_fails_again_and_again_is_left_alone(gate: Gate) -> None:
    gate.teacher.otherwise = status(500)
    codes = [(await gate.ask(str(k))).code for k in range(7)]
    assert codes == ["in_doubt"] * 5 + ["teacher_unavailable"] * 2
    assert len(gate.teacher.bodies) == 5
    gate.teacher.otherwise = answers()
    gate.time.forward(seconds=61)
    assert [(await gate.ask(str(k))).status for k in range(2)] == [200, 200]


async def test_while_the_gateway_ends_what_is_under_way_ends_and_nothing_begins(gate: Gate) -> None:
    may = asyncio.Event()
    gate.teacher.script.append(waits(may))
    asked = asyncio.create_task(gate.ask())
    await gate.teacher.arrived.wait()
    ending = asyncio.create_task(gate.asking.drain(10))
    joined, late = asyncio.create_task(gate.ask()), await gate.ask("something else")
    assert (late.status, late.code, late.headers["Retry-After"]) == (503, "gateway_unavailable", "5")
    may.set()
    await ending
    assert [(await asked).cache, (await joined).cache] == ["miss", "joined"]


async def test_terms_under_which_an_answer_was_bought_stay_with_it(gate: Gate) -> None:
    await gate.ask()
    known = gate.objects.budgets["nlp", "team-a"]["spec"]["teachers"][0]
    gate.objects.apply(budget(gate.teacher_url, teachers=[{**known, "terms": {"service": "self-hosted", "weights": "mit"}}]))
    gate.time.forward(seconds=6)
    again = await gate.ask()
    assert (again.cache, again.headers["X-Distillery-Terms"]) == ("hit", "self-hosted,apache-2.0,mit")

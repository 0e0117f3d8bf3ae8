"""What of a billed answer is kept and given: what can be used, at once and for ever; the rest is told with its reason."""

import json
from typing import Any

import pytest
from aiohttp import web
from tests.unit.gateway.conftest import Gate
from tests.unit.gateway.teacher_double import Behaviour, answers, completion, raw, status

from distillery.gateway.ledger import LARGEST

USAGE = {"prompt_tokens": 10, "completion_tokens": 2}
NOTHING = {"prompt_tokens": 0, "completion_tokens": 0}
COST = 10 * 1000 + 2 * 4000


def choices(*found: Any, **more: Any) -> Behaviour:
    return raw(json.dumps({"model": "m", "usage": USAGE, "choices": list(found), **more}).encode())


def choice(text: Any = "42", index: Any = 0, finish: Any = "stop", **more: Any) -> dict[str, Any]:
    return {"index": index, "finish_reason": finish, "message": {"role": "assistant", "content": text}, **more}


def texts(reply: Any) -> list[str]:
    return [found["message"]["content"] for found in reply.json["choices"]]


@pytest.mark.parametrize(
    ("behaviour", "n", "given"),
    [
        (choices(choice("a")), 3, ["a"]),
        (choices(choice("a", 0), choice("b", 2)), 3, ["a", "b"]),
        (choices(choice("b", 1), choice("a", 0), choice("c", 2)), 3, ["a", "b", "c"]),
        (choices(choice("a", 0), choice("b", 0), choice("c", None)), 3, ["a", "b", "c"]),
        (choices(choice("a", 0), choice("b", "x"), choice("c", 10**400)), 3, ["a", "b", "c"]),
        # more than asked for
        (choices(choice("a", 0), choice("b", 1)), 1, ["a"]),
        # some of no use
        (choices(choice("a"), choice("\ud83d", 1), choice("c", 2)), 3, ["a", "c"]),
        (choices(choice("a"), None, 7, {}, choice(7, 1), choice("b", 2, finish=3)), 3, ["a"]),
        # a word for "no" beside answers is given with it
        (choices(choice("a"), choice("", 1, finish="SAFETY")), 2, ["a", ""]),
    ],
)
async def test_what_there_is_is_kept_and_given_and_never_bought_again(gate: Gate, behaviour: Behaviour, n: int, given: list[str]) -> None:
    gate.teacher.script.append(behaviour)
    bought, again = await gate.ask(n=n), await gate.ask(n=n)
    assert (bought.status, texts(bought), texts(again)) == (200, given, given)
    assert [found["index"] for found in bought.json["choices"]] == list(range(len(given)))
    assert (again.cache, again.headers["X-Distillery-Cost"]) == ("hit", "0")
    assert {reply.headers["X-Distillery-Choices"] for reply in (bought, again)} == {f"{len(given)}/{n}"}
    assert (await gate.window()).settled == COST
    # the rest is asked for singly
    single = await gate.ask(headers={"X-Distillery-Sample": str(len(given))})
    assert (single.cache, single.headers["X-Distillery-Choices"]) == ("miss", "1/1")


async def test_a_whole_answer_says_that_it_is_whole(gate: Gate) -> None:
    replies = [await gate.ask(n=3), await gate.ask(n=3), await gate.ask(n=3, stream=True)]
    assert [reply.headers["X-Distillery-Choices"] for reply in replies] == ["3/3"] * 3


@pytest.mark.parametrize(
    ("behaviour", "why"),
    [
        (choices(), "its list of choices is empty"),
        (choices(choices=None), "it has no list of choices"),
        (choices(choices={"0": choice()}), "it has no list of choices"),
        (choices(None, "text"), "it has 0 of 1 choices"),
        (choices({"index": 0, "finish_reason": "stop"}), "a choice has neither a message nor a text"),
        (choices(choice(7)), "message.content is no text"),
        (choices(choice([{"type": "text", "text": 7}])), "message.content is no text"),
        (choices(choice("half \ud83d")), "half of a surrogate pair"),
        (choices(choice("a", finish=["stop"])), "finish_reason is no word"),
        (choices(choice("a", finish="SAFETY")), "finish_reason SAFETY"),
        (choices(choice("a", finish="sensitive")), "finish_reason sensitive"),
        (choices(choice("", finish="tool_calls")), "finish_reason tool_calls"),
    ],
)
async def test_what_cannot_be_used_is_paid_told_and_not_kept(gate: Gate, behaviour: Behaviour, why: str) -> None:
    gate.teacher.script.append(behaviour)
    reply, again = await gate.ask(), await gate.ask()
    assert (reply.status, reply.code) == (502, "teacher_failed")
    assert why in reply.json["error"]["message"]
    assert (again.status, again.cache) == (200, "miss")
    window = await gate.window()
    assert (window.settled, window.in_doubt) == (2 * COST, 0)


@pytest.mark.parametrize(
    ("finish", "kept"),
    [
        ("model_length", "truncated"),
        ("MAX_TOKENS", "truncated"),
        ("content_filter", "refused"),
        ("EOS", "stop"),
        (None, "stop"),
        ("", "stop"),
    ],
)
async def test_how_a_kept_answer_ended(gate: Gate, finish: str | None, kept: str) -> None:
    gate.teacher.script.append(choices(choice(finish=finish)))
    found = await gate.asking.ledger.answer((await gate.ask()).headers["X-Distillery-Answer"])
    assert found is not None
    assert found.finish == kept


async def test_only_what_is_known_of_an_answer_is_kept(gate: Gate) -> None:
    thought = {"type": "thinking", "thinking": [{"type": "text", "text": "s"}, {"type": "text", "text": "o"}]}
    strange = {"tool_calls": [{"x": 1}], "reasoning": "so", "refusal": None, "audio": {"data": "…"}}
    message = {
        "role": "tool",
        "content": [{"type": "text", "text": "a", "x": 1}, {"type": "image_url", "image_url": {}}, thought],
        **strange,
    }
    found = {"index": 5, "finish_reason": "stop", "message": message, "logprobs": None, "x": {}}
    usage = {**USAGE, "cost": 0.1, "prompt_tokens_details": {"cached_tokens": 1, "x": {"y": 1}}, "index": 3}
    gate.teacher.script.append(choices(found, id="i", created=1, model="m", usage=usage, x_debug=[1]))
    reply = await gate.ask()
    parts = [{"type": "text", "text": "a"}, {"type": "thinking", "thinking": "so"}]
    assert reply.json == {
        "id": "i",
        "created": 1,
        "model": "m",
        "choices": [
            {
                "index": 0,
                "finish_reason": "stop",
                "message": {"role": "assistant", "content": parts, "reasoning": "so"},
                "logprobs": None,
            }
        ],
        "usage": {**USAGE, "prompt_tokens_details": {"cached_tokens": 1}},
    }


def token(logprob: Any, **more: Any) -> dict[str, Any]:
    return {"token": "a", "logprob": logprob, **more}


GOOD = [token(-1.5, bytes=[97], top_logprobs=[token(-1.5, bytes=[97]), {"token": "b", "logprob": -2, "id": 7}])]


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ({"content": GOOD}, {"content": GOOD}),
        ({"content": [token(0.0005)]}, {"content": [token(0.0, top_logprobs=[])]}),
        ({"content": [token(float("-inf"))]}, {"content": [token(-9999.0, top_logprobs=[])]}),
        ({"content": [token(-1, bytes=None)]}, {"content": [token(-1.0, top_logprobs=[])]}),
        ({"content": [token(0.5)]}, None),
        ({"content": [token(float("nan"))]}, None),
        ({"content": [token(float("inf"))]}, None),
        ({"content": [token(-(10**400))]}, {"content": [token(-9999.0, top_logprobs=[])]}),
        ({"content": [token(-3.4028234663852886e38)]}, {"content": [token(-9999.0, top_logprobs=[])]}),
        ({"content": [token(True)]}, None),
        ({"content": [token("-1")]}, None),
        ({"content": [token(None)]}, None),
        ({"content": [token(-1, bytes=[256])]}, None),
        ({"content": [token(-1, bytes=["a"])]}, None),
        ({"content": [token(-1, top_logprobs=[7])]}, None),
        ({"content": [token(-1, top_logprobs={})]}, None),
        ({"content": [{"token": 7, "logprob": -1}]}, None),
        ({"content": ["a"]}, None),
        ({"content": None}, None),
        ("high", None),
        (
            {"tokens": ["a"], "token_logprobs": [None], "top_logprobs": [{"a": -1}], "text_offset": [0]},
            {"tokens": ["a"], "token_logprobs": [None], "top_logprobs": [{"a": -1.0}], "text_offset": [0]},
        ),
        ({"tokens": ["a"], "top_logprobs": [{"a": "b"}]}, None),
        ({"tokens": ["a"], "top_logprobs": [7]}, None),
        ({"tokens": ["a", "b"], "top_logprobs": [None]}, {"tokens": ["a", "b"]}),
        ({"tokens": [1]}, None),
    ],
)
async def test_log_probabilities_are_such_or_are_left_out(gate: Gate, given: Any, kept: Any) -> None:
    gate.teacher.script.append(choices(choice(logprobs=given)))
    reply = await gate.ask(logprobs=True)
    assert (reply.status, texts(reply)) == (200, ["42"])
    found = reply.json["choices"][0]["logprobs"]
    assert found == ({"content": [{"top_logprobs": [], **entry} for entry in kept["content"]]} if kept and "content" in kept else kept)


def failure(code: Any, **more: Any) -> Behaviour:
    return raw(json.dumps({"error": {"message": "too much", "code": code}, **more}).encode())


def failed_choices(code: Any, text: str = "", usage: Any = NOTHING) -> Behaviour:
    one = choice(text, finish="error", error={"code": code, "message": "provider"})
    return raw(json.dumps({"choices": [one], "usage": usage}).encode())


@pytest.mark.parametrize(
    ("behaviour", "told", "code", "settled", "doubt"),
    [
        (failure(429), 429, "rate_limit_exceeded", 0, False),
        (failure("429"), 429, "rate_limit_exceeded", 0, False),
        (failure("rate_limit_exceeded"), 429, "rate_limit_exceeded", 0, False),
        (failure("insufficient_quota"), 503, "teacher_unavailable", 0, False),
        (failure(503), 503, "teacher_unavailable", 0, False),
        (failure(529), 503, "teacher_unavailable", 0, False),
        (failure(400), 502, "teacher_failed", 0, False),
        (failure(401), 503, "teacher_unavailable", 0, False),
        (failure(500), 502, "in_doubt", 0, True),
        (failure(502, choices=[]), 502, "in_doubt", 0, True),
        (failure(429, choices=None, usage={"prompt_tokens": 0, "completion_tokens": 0}), 429, "rate_limit_exceeded", 0, False),
        (failure(200), 502, "in_doubt", 0, True),
        (failure(None), 502, "in_doubt", 0, True),
        (failure(True), 502, "in_doubt", 0, True),
        (failure([429]), 502, "in_doubt", 0, True),
        (raw(b'{"error": "overloaded"}'), 502, "in_doubt", 0, True),
        (raw(b'{"object": "error", "message": "x", "code": 400}'), 502, "teacher_failed", 0, False),
        (raw(b'{"error": {"message": "x", "http_code": "429"}}'), 429, "rate_limit_exceeded", 0, False),
        # in each choice, as OpenRouter does for the provider behind it
        (failed_choices(429), 429, "rate_limit_exceeded", 0, False),
        (failed_choices(502), 502, "in_doubt", 0, True),
        (failed_choices(429, usage=None), 429, "rate_limit_exceeded", 0, False),
        (failed_choices(429, usage=USAGE), 502, "teacher_failed", COST, False),
        # half of an answer was worked for
        (failed_choices(429, "half", usage=None), 502, "in_doubt", 0, True),
        (failure(429, usage=USAGE), 502, "teacher_failed", COST, False),
        (failure(429, usage=USAGE, choices=[choice()]), 200, None, COST, False),
    ],
)
async def test_an_error_told_with_200_is_that_error(
    gate: Gate, behaviour: Behaviour, told: int, code: str | None, settled: int, doubt: bool
) -> None:
    gate.teacher.script.append(behaviour)
    reply = await gate.ask()
    assert (reply.status, None if reply.status == 200 else reply.code) == (told, code)
    window = await gate.window()
    assert (window.settled, window.held, window.in_doubt > 0) == (settled, 0, doubt)


async def test_an_error_told_with_200_slows_the_pace_as_its_status_would(gate: Gate) -> None:
    async def allowed(behaviour: Behaviour, text: str) -> float:
        gate.teacher.script.append(behaviour)
        await gate.ask(text)
        (teacher,) = gate.asking.teachers._known.values()
        gate.time.forward(seconds=60)
        return teacher.limits._allowed

    at_first = await allowed(answers(), "a")
    after_429, after_200 = await allowed(status(429), "b"), await allowed(failure(429), "c")
    assert at_first > after_429 > after_200


@pytest.mark.parametrize(
    ("usage", "tokens"),
    [
        ({"prompt_tokens": 10, "completion_tokens": 2**53}, 2**53),
        ({"prompt_tokens": 2**70, "completion_tokens": 10**300}, 2**70),
    ],
)
async def test_a_bill_beyond_all_numbers_is_a_capped_overrun(gate: Gate, usage: dict[str, int], tokens: int) -> None:
    gate.teacher.script.append(answers(usage=usage))
    assert (await gate.ask()).status == 200
    window = await gate.window()
    assert window.in_doubt == 0
    assert LARGEST // 2 < window.overrun <= LARGEST < tokens
    gate.time.forward(seconds=10)
    assert (await gate.ask("more")).code == "overrun"


async def test_of_several_usages_the_largest_counts(gate: Gate) -> None:
    body = json.dumps(completion({"messages": []}, usage={"prompt_tokens": 10, "completion_tokens": 7}))
    gate.teacher.script.append(raw(body[:-1].encode() + b', "usage": {"prompt_tokens": 1, "completion_tokens": 0}}'))
    assert (await gate.ask()).headers["X-Distillery-Cost"] == str(10 * 1000 + 7 * 4000)


def sse(*chunks: Any, done: bool = True, after: str = "") -> Behaviour:
    """A stream of these chunks."""

    async def behave(_: web.Request, __: dict[str, Any]) -> web.StreamResponse:
        events = [f"data: {chunk if isinstance(chunk, str) else json.dumps(chunk)}\n\n" for chunk in chunks]
        text = "".join([*events, *(["data: [DONE]\n\n"] if done else []), after])
        return web.Response(text=text, content_type="text/event-stream")

    return behave


def part(text: str = "", index: Any = 0, finish: str | None = None, **more: Any) -> dict[str, Any]:
    return {"choices": [{"index": index, "delta": {"content": text}, "finish_reason": finish}], **more}


END, PAID = part(finish="stop"), {"choices": [], "usage": USAGE}
DEAR, FREE = ({"choices": [], "usage": {"prompt_tokens": count, "completion_tokens": count}} for count in (9000, 0))


@pytest.mark.parametrize(
    ("behaviour", "n", "given", "settled"),
    [
        (sse(part("4"), part("2"), END, PAID), 1, ["42"], COST),
        # one of two came
        (sse(part("42"), END, PAID), 2, ["42"], COST),
        (sse(part("42"), END, part("43", 1), PAID, done=False), 2, ["42"], COST),
        # no word for its end: the end of the stream is it
        (sse(part("42"), PAID), 1, ["42"], COST),
        # nothing counts after the end
        (sse(part("42"), END, PAID, after=f"data: {json.dumps(DEAR)}\n\n"), 1, ["42"], COST),
        (sse(part("42"), END, PAID, after=f"data: {json.dumps(part('3'))}\n\n"), 1, ["42"], COST),
        # of several usages the largest counts, wherever it stands
        (sse(part("42", usage={"prompt_tokens": 10, "completion_tokens": 1}), END, PAID, FREE), 1, ["42"], COST),
        (sse(part("42"), {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop", "usage": USAGE}]}), 1, ["42"], COST),
        (sse(part("42"), {**END, "x_groq": {"usage": USAGE}}), 1, ["42"], COST),
    ],
)  # fmt: skip
async def test_a_stream_is_the_answer_that_it_makes(gate: Gate, behaviour: Behaviour, n: int, given: list[str], settled: int) -> None:
    gate.teacher.script.append(behaviour)
    streamed, kept = await gate.ask(n=n, stream=True), await gate.ask(n=n)
    assert streamed.text.endswith("data: [DONE]\n\n")
    assert (kept.cache, texts(kept), kept.headers["X-Distillery-Choices"]) == ("hit", given, f"{len(given)}/{n}")
    assert (await gate.window()).settled == settled


@pytest.mark.parametrize(
    ("behaviour", "code", "settled", "doubt"),
    [
        (sse(part("42"), "no JSON", END, PAID), "teacher_failed", COST, False),
        (sse(part("42"), [1], END, PAID), "teacher_failed", COST, False),
        (sse(part("42"), part("x", index="0"), END, PAID), "teacher_failed", COST, False),
        (sse(part("42"), {"choices": "x"}, END, PAID), "teacher_failed", COST, False),
        (sse(part("42", finish="SAFETY"), PAID), "teacher_failed", COST, False),
        (sse(PAID), "teacher_failed", COST, False),
        (sse(part("42"), END), "in_doubt", 0, True),
        (sse(), "in_doubt", 0, True),
        (sse({"error": {"message": "no", "code": 429}}), "rate_limit_exceeded", 0, False),
        (sse({"error": {"message": "no", "code": 400}}, done=False), "teacher_failed", 0, False),
        (sse(part("42"), {"error": {"message": "no", "code": 429}}), "in_doubt", 0, True),
        (sse(part("42"), {"error": {"message": "no", "code": 429}}, done=False), "in_doubt", 0, True),
    ],
)
async def test_a_stream_that_cannot_be_used_is_paid_or_told(gate: Gate, behaviour: Behaviour, code: str, settled: int, doubt: bool) -> None:
    gate.teacher.script.append(behaviour)
    reply = await gate.ask(stream=True)
    assert f'"code":"{code}"' in reply.text.replace('": "', '":"')
    window = await gate.window()
    assert (window.settled, window.in_doubt > 0) == (settled, doubt)

"""Whatever a teacher sends, the trainer reads what the gateway keeps of it, and never fails over it: checked once, where it comes in."""

import copy
import json
import math
from functools import cache
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from tests.unit.gateway.conftest import NOON
from tests.unit.gateway.teacher_double import completion
from tests.unit.trainer import tiny

from distillery.gateway.foreign import secret
from distillery.gateway.teachers.choices import choices_in
from distillery.gateway.teachers.outcome import Billed, Doubtful, NotBilled, Source
from distillery.gateway.teachers.reading import of_answer
from distillery.gateway.teachers.stream import Assembly, Events, replay
from distillery_trainer.data.rows import Row
from distillery_trainer.data.templates import Renderer, template_of
from distillery_trainer.teacher.endpoint.answers import parsed
from distillery_trainer.teacher.endpoint.asks import Ask
from distillery_trainer.teacher.endpoint.distribution import Reader
from distillery_trainer.teacher.endpoint.gateway import Reply

SOURCE = Source("gpt-x", secret("sk-live-4fQ9xTz81LmNw0RbVh7Yc2Kd"), {}, NOON)
N = 2
CHAT = completion({"messages": [], "n": N, "logprobs": True}, "cat")
TOPS = [{"token": "c", "logprob": -0.2, "bytes": [99], "id": 4}, {"token": "d", "logprob": -3, "bytes": None}]
for _choice in CHAT["choices"]:
    _choice["logprobs"]["content"][0]["top_logprobs"] = TOPS
TEXT = completion({"prompt": "", "n": N}, "cat")
for _choice in TEXT["choices"]:
    _choice["logprobs"] = {
        "tokens": ["c", "at"],
        "token_logprobs": [-1.0, -2.0],
        "top_logprobs": [{"c": -1.0}, None],
        "text_offset": [0, 1],
    }
PARTS = copy.deepcopy(CHAT)
PARTS["choices"][0]["message"]["content"] = [
    {"type": "text", "text": "a"},
    {"type": "thinking", "thinking": [{"type": "text", "text": "b"}]},
]
HOSTILE: list[Any] = [
    None, True, False, 0, -1, 1, 2**31, 2**53, 2**70, 10**400, -(10**400), 0.5, -0.5, 1e308, math.inf, -math.inf, math.nan, "", "a", "\x00",
    "\ud83d", "\udc00\ud800", "x" * 1000, [], {}, [[]], [{}], [None], {"": ""}, [256], [-1], ["a"], {"\ud800": 1}, {"a": math.nan},
    "length", "SAFETY", {"type": "text"}, {"type": []}, {"content": 7}, {"tokens": ["a"], "top_logprobs": [[1]]}, [[[[[[["deep"]]]]]]],
]  # fmt: skip


def places(body: Any) -> list[tuple[Any, Any]]:
    """Every (container, key) in it."""
    found = []
    for key, value in list(body.items() if isinstance(body, dict) else enumerate(body)):
        found.append((body, key))
        if isinstance(value, dict | list):
            found += places(value)
    return found


@st.composite
def mutated(draw: st.DrawFn) -> Any:
    """A whole answer in which some things are something else, are gone, or are there twice."""
    body = {"whole": copy.deepcopy(draw(st.sampled_from([CHAT, TEXT, PARTS])))}
    for _ in range(draw(st.integers(1, 4))):
        found = places(body)
        parent, key = found[draw(st.integers(0, len(found) - 1))]
        how = draw(st.integers(0, 5))
        if how == 0 and parent is not body:
            del parent[key]
        elif how == 1 and isinstance(parent, list):
            parent.append(copy.deepcopy(parent[key]))
        elif parent is not body or draw(st.booleans()):
            parent[key] = copy.deepcopy(draw(st.sampled_from(HOSTILE)))
    return body["whole"]


@cache
def reader() -> Reader:
    words = tiny.tokenizer()
    return Reader(Renderer(words, template_of(words)), 2)


@given(mutated())
@settings(max_examples=600)
def test_what_is_kept_of_a_broken_answer_is_read_without_a_fault(answer: Any) -> None:
    found = of_answer(json.dumps(answer).encode(), N, SOURCE)
    assert isinstance(found, Billed | Doubtful | NotBilled)
    if not isinstance(found, Billed):
        return
    assert found.body is not None or found.lacking
    if found.body is None:
        return
    kept = json.loads(found.body, parse_constant=_refused)
    assert kept["choices"]
    assert choices_in(found.body, N) == len(kept["choices"]) <= N
    found.body.decode()
    read(kept, N)
    # and as a stream, which makes the same again
    chat = "message" in kept["choices"][0]
    assembly, events = Assembly(chat), Events()
    for part in replay(kept, chat, usage_chunk=True):
        for data in events.feed(part):
            if data != b"[DONE]":
                assembly.add(json.loads(data))
    read(assembly.answer(done=True), N)


def read(kept: Any, n: int) -> None:
    """As the trainer does."""
    ask = Ask(0, Row("row", "say a word", None, None, ""), False, n)
    answered, distributions = parsed(ask, Reply(kept, 1, 0, 0, "key", ()), reader())
    assert len(answered.choices) == len(distributions) == n
    json.dumps(answered.wire(), ensure_ascii=False).encode()
    for one in distributions:
        if one is not None:
            assert all(math.isfinite(value) for value in one.tail.tolist())


def _refused(word: str) -> float:
    raise AssertionError(f"{word} is no JSON")

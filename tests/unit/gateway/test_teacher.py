"""Whatever a teacher sends, its request has one outcome; nothing that it says is trusted to have a shape."""

import asyncio
import json
from datetime import UTC, datetime
from typing import Any

from aiohttp import web
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.unit.gateway.conftest import NOON, teacher_spec

from distillery.api.budget import BudgetTeacher
from distillery.gateway.flights import Relay
from distillery.gateway.foreign import secret
from distillery.gateway.question import read_question
from distillery.gateway.room import Room
from distillery.gateway.teachers.letter import Letter
from distillery.gateway.teachers.outcome import Billed, Doubtful, Source
from distillery.gateway.teachers.reading import of_answer
from distillery.gateway.teachers.teacher import Teacher
from distillery.health import serving
from distillery.prices import cost, price_of

SPEC = BudgetTeacher.model_validate(teacher_spec("https://api.example.com/v1"))
QUESTION = read_question(
    "chat/completions", json.dumps({"model": "gpt-x", "stream": True, "messages": [{"role": "user", "content": "?"}]}).encode(), SPEC, None
)
SOURCE = Source("gpt-x", secret("sk-live-4fQ9xTz81LmNw0RbVh7Yc2Kd"), {}, NOON)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 2**60) | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)


def like(**fields: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """An object with some of these fields, each right or anything."""
    return st.fixed_dictionaries({}, optional={name: value | JSON for name, value in fields.items()})


COUNT = st.integers(0, 1000)
USAGE = like(
    prompt_tokens=COUNT, completion_tokens=COUNT, total_tokens=COUNT, prompt_tokens_details=like(cached_tokens=COUNT)
)  # fmt: skip
CHOICE = like(index=st.integers(0, 2), finish_reason=st.sampled_from(["stop", "length"]), message=like(content=st.text(max_size=3)))
ANSWER = like(choices=st.lists(CHOICE | JSON, max_size=2), usage=USAGE, service_tier=st.just("default"))
CHUNK = like(
    choices=st.lists(
        like(index=st.integers(0, 2), delta=like(content=st.text(max_size=3)), finish_reason=st.just("stop"), logprobs=JSON) | JSON,
        max_size=2,
    ),
    usage=USAGE,
)


@given(ANSWER | JSON)
@settings(max_examples=500)
def test_any_answer_is_billed_or_in_doubt(answer: Any) -> None:
    found = of_answer(json.dumps(answer).encode(), 1, SOURCE)
    assert isinstance(found, Billed | Doubtful)
    if isinstance(found, Billed):
        assert found.tokens_in >= 0
        assert found.tokens_out >= 0
        assert cost(price_of(SPEC, NOON), found.usage, found.service_tier) >= 0


@given(st.binary(max_size=40))
def test_any_bytes_are_billed_or_in_doubt(body: bytes) -> None:
    assert isinstance(of_answer(body, 1, SOURCE), Billed | Doubtful)


class Raw:
    """A teacher that streams what it is told."""

    def __init__(self) -> None:
        self.content = b""

    async def answer(self, _: web.Request) -> web.Response:
        return web.Response(body=self.content, content_type="text/event-stream")


@given(st.lists(st.binary(max_size=20) | CHUNK.map(lambda chunk: json.dumps(chunk).encode()), max_size=5))
@settings(max_examples=150)
def test_any_stream_is_billed_or_in_doubt(events: list[bytes]) -> None:
    async def ask() -> None:
        app, teacher = web.Application(), Raw()
        app.add_routes([web.post("/v1/chat/completions", teacher.answer)])
        teacher.content = b"".join(b"data: " + event + b"\n\n" for event in events)
        async with serving(app, "127.0.0.1", 0) as port:
            found = Teacher(f"http://127.0.0.1:{port}/v1", 10, 10**6, asyncio.get_running_loop().time, lambda: datetime.now(UTC))
            room = Room(10**6).nothing("nlp")
            outcome = await found.ask(Letter(QUESTION, True), "gpt-x", found.breakers.of("nlp", None), "hold", Relay(), room)
            await found.close()
        assert isinstance(outcome, Billed | Doubtful)

    asyncio.run(ask())

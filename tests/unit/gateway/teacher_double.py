"""A teacher that does what a test tells it, and remembers what it was asked. What it bills is what `billed` says, whatever it answers."""

import asyncio
import json
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Any

from aiohttp import web

Body = dict[str, Any]
Behaviour = Callable[[web.Request, Body], Awaitable[web.StreamResponse]]


def completion(body: Body, text: str = "42", usage: Body | None = None, finish: str = "stop", **more: Any) -> Body:
    """An answer as the API gives it; `usage` of 10 tokens in and 2 out for each choice, if not given."""
    n = body.get("n", 1)
    chat = "messages" in body
    logprobs = {"content": [{"token": text, "logprob": -0.1, "bytes": list(text.encode()), "top_logprobs": []}], "refusal": None}
    choices = [
        {"index": k, "finish_reason": finish, "logprobs": logprobs if body.get("logprobs") else None}
        | ({"message": {"role": "assistant", "content": f"{text}-{k}" if n > 1 else text}} if chat else {"text": text})
        for k in range(n)
    ]
    usage = {"prompt_tokens": 10, "completion_tokens": 2 * n, "total_tokens": 10 + 2 * n} if usage is None else usage
    kind = "chat.completion" if chat else "text_completion"
    found = {"id": "c-1", "object": kind, "created": 1, "model": "teacher-1", "choices": choices, "usage": usage}
    return {**found, **more}


def answers(text: str = "42", **more: Any) -> Behaviour:
    """A whole answer; a stream where one is asked for."""

    async def behave(request: web.Request, body: Body) -> web.StreamResponse:
        answer = completion(body, text, **more)
        if not body.get("stream"):
            return web.json_response(answer)
        return await streamed(request, body, answer)

    return behave


async def streamed(request: web.Request, body: Body, answer: Body, events: int | None = None) -> web.StreamResponse:
    """The answer, a letter at a time; the connection is cut after so many events."""
    response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
    await response.prepare(request)
    for number, event in enumerate(pieces(body, answer)):
        if number == events:
            assert request.transport is not None
            request.transport.abort()
            return response
        await response.write(b"data: " + json.dumps(event).encode() + b"\n\n")
    await response.write(b"data: [DONE]\n\n")
    return response


def pieces(body: Body, answer: Body) -> list[Body]:
    """The chunks of an answer."""
    chat, found = "messages" in body, []
    top = {"id": answer["id"], "object": "chat.completion.chunk" if chat else "text_completion", "created": 1, "model": answer["model"]}
    for choice in answer["choices"]:
        part = {"index": choice["index"], "finish_reason": None}
        if chat:
            found.append({**top, "choices": [{**part, "delta": {"role": "assistant", "content": ""}}]})
        text = choice["message"]["content"] if chat else choice["text"]
        found.extend({**top, "choices": [{**part, **({"delta": {"content": c}} if chat else {"text": c})}]} for c in text)
        end = {"delta": {}} if chat else {"text": ""}
        found.append({**top, "choices": [{**part, **end, "logprobs": choice["logprobs"], "finish_reason": choice["finish_reason"]}]})
    if body.get("stream_options", {}).get("include_usage") and answer["usage"]:
        found.append({**top, "choices": [], "usage": answer["usage"]})
    return found


def cut_stream(events: int, **more: Any) -> Behaviour:
    """A stream that breaks off after so many events."""

    async def behave(request: web.Request, body: Body) -> web.StreamResponse:
        return await streamed(request, body, completion(body, **more), events)

    return behave


def status(code: int, message: str = "no", headers: dict[str, str] | None = None, error_code: str | None = None) -> Behaviour:
    """An error."""

    async def behave(_: web.Request, __: Body) -> web.StreamResponse:
        return web.json_response({"error": {"message": message, "code": error_code}}, status=code, headers=headers)

    return behave


def raw(content: bytes) -> Behaviour:
    """200 with whatever it is."""

    async def behave(_: web.Request, __: Body) -> web.StreamResponse:
        return web.Response(body=content, content_type="application/json")

    return behave


async def drops(request: web.Request, _: Body) -> web.StreamResponse:
    """The connection is closed without a word."""
    assert request.transport is not None
    request.transport.abort()
    return web.Response()


def waits(until: asyncio.Event, then: Behaviour | None = None) -> Behaviour:
    """Answers when it may."""

    async def behave(request: web.Request, body: Body) -> web.StreamResponse:
        await until.wait()
        return await (then or answers())(request, body)

    return behave


class TeacherDouble:
    """Serves `script`, one behaviour a request, then `otherwise`."""

    def __init__(self) -> None:
        self.script: deque[Behaviour] = deque()
        self.otherwise: Behaviour = answers()
        self.bodies: list[Body] = []
        self.headers: list[dict[str, str]] = []
        self.arrived = asyncio.Event()

    def app(self) -> web.Application:
        """The application."""
        app = web.Application()
        app.add_routes([web.post("/v1/chat/completions", self._answer), web.post("/v1/completions", self._answer)])
        return app

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        body = await request.json()
        self.bodies.append(body)
        self.headers.append(dict(request.headers))
        self.arrived.set()
        return await (self.script.popleft() if self.script else self.otherwise)(request, body)

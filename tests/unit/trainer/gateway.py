"""A gateway on a loopback port, in a thread of its own: scripted answers, a cache, and everything that it was asked."""

from __future__ import annotations

import asyncio
import hashlib
import json
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

COST = 1_500_000
INFO: dict[str, Any] = {
    "teacher": {
        "name": "gpt-x",
        "baseURL": "https://api.example.com/v1",
        "model": "gpt-x-2026-01-01",
        "prices": {"inputPerMillion": "1.00", "outputPerMillion": "4.00"},
        "terms": {"service": "example-2026", "weights": "llama-3.3"},
    },
    "budget": "team",
    "policy": {
        "verdict": "permit",
        "terms": ["example-2026", "llama-3.3"],
        "clause": "1.b.i",
        "url": "https://example.com/terms",
        "obligations": [{"type": "namePrefix", "value": "Llama"}, {"type": "display", "value": "Built with Llama"}],
        "catalogue": "c" * 64,
        "approval": "LEGAL-7",
    },
    "prices": "d" * 64,
}
Body = dict[str, Any]
#: An answer's body, or (status, code, headers) of an error.
Said = Body | tuple[int, str, dict[str, str]]


@dataclass
class FakeGateway:
    """`script` hears each request's body and how often that body was asked before; it runs on the server's thread."""

    script: Callable[[Body, int], Said]
    info: Said = field(default_factory=lambda: INFO)
    url: str = ""
    asked: list[Body] = field(default_factory=list)
    bought: list[Body] = field(default_factory=list)
    samples: list[str | None] = field(default_factory=list)
    tokens: list[str | None] = field(default_factory=list)
    paths: list[str] = field(default_factory=list)
    in_flight: int = 0
    most_in_flight: int = 0
    delay: float = 0.0
    _cache: dict[str, Body] = field(default_factory=dict)
    _attempts: dict[str, int] = field(default_factory=dict)

    async def handle(self, request: web.Request) -> web.Response:
        """Chat and text completions."""
        body = await request.json()
        self.asked.append(body)
        self.paths.append(request.path)
        self.samples.append(request.headers.get("X-Distillery-Sample"))
        self.tokens.append(request.headers.get("Authorization"))
        key = hashlib.sha256(json.dumps([request.path, body, self.samples[-1]], sort_keys=True).encode()).hexdigest()
        headers = {"X-Distillery-Answer": key, "X-Distillery-Terms": "example-2026, llama-3.3"}
        if key in self._cache:
            return web.json_response(self._cache[key], headers={**headers, "X-Distillery-Cache": "hit", "X-Distillery-Cost": "0"})
        self.in_flight += 1
        self.most_in_flight = max(self.most_in_flight, self.in_flight)
        try:
            if self.delay:
                await asyncio.sleep(self.delay)
            said = self.script(body, self._attempts.get(key, 0))
        finally:
            self.in_flight -= 1
        self._attempts[key] = self._attempts.get(key, 0) + 1
        if isinstance(said, tuple):
            return failure(*said)
        self.bought.append(body)
        self._cache[key] = said
        return web.json_response(said, headers={**headers, "X-Distillery-Cache": "miss", "X-Distillery-Cost": str(COST)})

    async def teacher(self, request: web.Request) -> web.Response:
        """GET /v1/teacher."""
        self.tokens.append(request.headers.get("Authorization"))
        return failure(*self.info) if isinstance(self.info, tuple) else web.json_response(self.info)


def failure(status: int, code: str, headers: dict[str, str]) -> web.Response:
    """An error object as the gateway gives it."""
    error = {"message": f"the gateway's sentence on {code}", "type": "error", "param": None, "code": code}
    return web.json_response({"error": error}, status=status, headers=headers)


def chat(*texts: str, finish: str = "stop", **message: Any) -> Body:
    """The body of a chat answer, one choice for each text."""
    choices = [
        {"index": at, "finish_reason": finish, "message": {"role": "assistant", "content": text, **message}}
        for at, text in enumerate(texts)
    ]
    return {"model": "gpt-x-2026-01-01-b", "choices": choices, "usage": {"prompt_tokens": 9, "completion_tokens": 5}}


def prompt_of(body: Mapping[str, Any]) -> str:
    """The text of the last message, or the prompt."""
    return str(body["messages"][-1]["content"] if "messages" in body else body["prompt"])


@contextmanager
def serving(gateway: FakeGateway, port: int = 0) -> Iterator[FakeGateway]:
    """The gateway answers at gateway.url."""
    loop = asyncio.new_event_loop()
    ready = threading.Event()

    async def start() -> web.AppRunner:
        app = web.Application()
        app.router.add_get("/v1/teacher", gateway.teacher)
        app.router.add_post("/v1/chat/completions", gateway.handle)
        app.router.add_post("/v1/completions", gateway.handle)
        runner = web.AppRunner(app)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", port)
        await site.start()
        gateway.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
        ready.set()
        return runner

    def serve() -> None:
        asyncio.set_event_loop(loop)
        runner = loop.run_until_complete(start())
        loop.run_forever()
        loop.run_until_complete(runner.cleanup())

    thread = threading.Thread(target=serve, name="fake-gateway", daemon=True)
    thread.start()
    assert ready.wait(10)
    yield gateway
    loop.call_soon_threadsafe(loop.stop)
    thread.join(10)
    loop.close()

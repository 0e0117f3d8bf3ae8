"""Thousands of broken bodies, the same in each run: each is answered or refused by name, none is a fault of ours or costs a doubt."""

import asyncio
import copy
import json
import random
from collections import Counter
from typing import Any

import aiohttp
import pytest
from tests.unit.gateway.conftest import Gate

SEED = 12
LONG = "y" * 5000
#: Written into the JSON as they stand: what Python's own encoder would not write.
RAW = (
    "1e999",
    "-1e999",
    "NaN",
    "Infinity",
    "1" * 400,
    "1" * 5000,
    '"\\ud800"',
    '"\\udc00\\ud800"',
    "-0.0",
    "1E400",
    "[" * 900 + "]" * 900,
    "[" * 9000,
    "tru",
    "{",
    "",
)
VALUES: tuple[Any, ...] = (
    None, True, False, 0, -1, 1, 2**31, 2**53, 2**63, -(2**70), 0.5, 1e300, "", "a", "\x00", "\u202e", "\ufeff", LONG, "é" * 300,
    [], {}, [[]], [{}], [None], {"type": None}, {"type": []}, {"role": {}}, ["a"] * 70, [1, "a", None], {"": ""}, {LONG: LONG},
    {"type": "text", "text": 7}, {"type": "json_object", "x": LONG}, [{"type": "text", "text": "a", "cache_control": {"type": "x"}}],
)  # fmt: skip
NAMES = (
    "model", "messages", "prompt", "stream", "stream_options", "max_tokens", "max_completion_tokens", "temperature", "top_p", "n", "stop",
    "seed", "presence_penalty", "top_k", "min_p", "logprobs", "top_logprobs", "response_format", "reasoning_effort", "role", "content",
    "name", "type", "text", "tools", "user", "", LONG, "\x00", "é",
)  # fmt: skip
CHAT: list[dict[str, Any]] = [
    {"model": "gpt-x", "messages": [{"role": "user", "content": "6*7?"}], "max_completion_tokens": 20},
    {
        "model": "gpt-x",
        "messages": [
            {"role": "system", "content": "short", "name": "s"},
            {"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]},
        ],
        "temperature": 0.5, "top_p": 0.9, "n": 2, "stop": ["x", "y"], "seed": 3, "logprobs": True, "top_logprobs": 2,
    },
    {
        "model": "gpt-x", "messages": [{"role": "user", "content": "?"}], "stream": True, "stream_options": {"include_usage": True},
        "response_format": {"type": "json_schema", "json_schema": {"name": "a", "schema": {"type": "object", "properties": {}}}},
    },
]  # fmt: skip
TEXT: list[dict[str, Any]] = [{"model": "gpt-x", "prompt": "once", "max_tokens": 9, "stop": "x", "logprobs": 2, "top_k": 4}]
HEADERS = ("-1", "x" * 300, "9" * 9, "1", "²", "\t")


def deep(levels: int) -> str:
    """Lists in lists, as text: several of them in each other would be too deep for Python's own encoder."""
    return "[" * levels + '"z"' + "]" * levels


class Mutator:
    """Makes broken bodies of whole ones."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)

    def next(self) -> tuple[str, bytes, dict[str, str]]:
        """Path, body and headers."""
        chat = self._random.random() < 0.8
        body = copy.deepcopy(self._random.choice(CHAT if chat else TEXT))
        raw: dict[str, str] = {}
        for _ in range(self._random.choice((1, 1, 1, 2, 3))):
            self._mutate(body, raw)
        data = json.dumps(body)
        for mark, token in raw.items():
            data = data.replace(f'"{mark}"', token)
        content = data.encode(errors="surrogatepass")
        if self._random.random() < 0.1:
            content = self._torn(content)
        headers = {"X-Distillery-Sample": self._random.choice(HEADERS)} if self._random.random() < 0.05 else {}
        if self._random.random() < 0.03:
            # the gateway does not read what it refuses, and closes the connection
            headers |= {"Content-Encoding": self._random.choice(("gzip", "deflate", "br", "zstd", "identity", "x")), "Connection": "close"}
        return ("/v1/chat/completions" if chat != (self._random.random() < 0.03) else "/v1/completions"), content, headers

    def _mutate(self, body: Any, raw: dict[str, str]) -> None:
        places = list(_places(body))
        parent, key = self._random.choice(places)
        kind = self._random.random()
        if kind < 0.15:
            del parent[key]
        elif kind < 0.35 and isinstance(parent, dict):
            parent[self._random.choice(NAMES)] = self._value(raw)
        else:
            parent[key] = self._value(raw)
        if not body:
            body["model"] = "gpt-x"

    def _value(self, raw: dict[str, str]) -> Any:
        kind = self._random.random()
        if kind < 0.3:
            mark = f"@raw{len(raw)}@"
            raw[mark] = self._random.choice(RAW) if kind < 0.25 else deep(self._random.choice((3, 70, 300)))
            return mark
        return copy.deepcopy(self._random.choice(VALUES))

    def _torn(self, content: bytes) -> bytes:
        at = self._random.randrange(len(content) + 1)
        kind = self._random.randrange(4)
        if kind == 0:
            return content[:at]
        if kind == 1:
            return content[:at] + self._random.randbytes(3) + content[at:]
        if kind == 2:
            return content.decode(errors="replace").encode("utf-16")
        return content + content


def _places(body: Any) -> Any:
    """Every (container, key) in it."""
    for key, value in list(body.items() if isinstance(body, dict) else enumerate(body)):
        yield body, key
        if isinstance(value, dict | list):
            yield from _places(value)


@pytest.mark.parametrize("count", [3000, pytest.param(24_900, marks=pytest.mark.slow)])
async def test_no_body_is_a_fault_of_the_gateway(gate: Gate, count: int) -> None:
    mutator, told, wrong = Mutator(SEED), Counter[int](), []
    cases = [mutator.next() for _ in range(count)]
    turns = asyncio.Semaphore(16)

    async def send(path: str, content: bytes, headers: dict[str, str]) -> None:
        async with turns:
            given = {"Content-Type": "application/json", **headers}
            try:
                reply = await gate.request("POST", path, "pod:nlp/arith/traces", headers=given, data=content)
            except aiohttp.ClientConnectionError:
                # what is not read may be met by the close before its refusal is read
                if "Content-Encoding" not in given:
                    raise
                return
        told[reply.status] += 1
        fine = reply.status in (200, 503) or 400 <= reply.status < 500
        if not fine or (reply.status != 200 and ("y" * 201 in reply.text or len(reply.text) > 2000)):
            wrong.append((reply.status, content[:300], reply.text[:300]))

    await asyncio.gather(*(send(*case) for case in cases))
    assert wrong == []
    assert told[200] > count / 20
    assert told[400] > count / 2
    window = await gate.window()
    assert (window.in_doubt, window.held, window.overrun) == (0, 0, 0)

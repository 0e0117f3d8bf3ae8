"""A teacher that repeats the key, in whatever place and form: no piece of it reaches a tenant, the log, the ledger or a kept answer."""

import asyncio
import base64
import json
import logging
import sqlite3
import zlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from tests.unit.gateway.conftest import Gate, budget

from distillery.logs import JsonFormatter

KEY = "sk-live-4fQ9xTz81LmNw0RbVh7Yc2Kd+/="
FORMS = {
    "itself": KEY,
    "a piece": KEY[12:21],
    "base64 of the header": base64.b64encode(f"Bearer {KEY}".encode()).decode(),
    "url": quote(KEY, safe=""),
}
USAGE = {"prompt_tokens": 10, "completion_tokens": 2}
BILLED = 10 * 1000 + 2 * 4000
MARK = "@key@"


def http(body: str, status: str = "200 OK", kind: str = "application/json", *more: str) -> bytes:
    head = [f"HTTP/1.1 {status}", f"Content-Type: {kind}", *more, "Connection: close"]
    return "\r\n".join([*head, "", body]).encode()


def error(status: str, *more: str) -> bytes:
    return http(json.dumps({"error": {"message": f"the key {MARK} is not known", "code": MARK}}), status, "application/json", *more)


def answer(choice: dict[str, Any], **more: Any) -> bytes:
    return http(json.dumps({"choices": [{"index": 0, "finish_reason": "stop", **choice}], "usage": USAGE, **more}))


def said(content: Any, **more: Any) -> dict[str, Any]:
    return {"message": {"role": "assistant", "content": content, **more}}


#: What is sent, where MARK is the key; status told; what the ledger has: settled, in doubt, released.
REPLIES: dict[str, tuple[bytes, int, str]] = {
    "no HTTP": (f"{MARK}\r\n\r\n".encode(), 502, "doubt"),
    "a status that is none": (f"HTTP/1.1 {MARK}\r\n\r\n".encode(), 502, "doubt"),
    "a version that is none": (f"HTTP/{MARK} 200 OK\r\n\r\n".encode(), 502, "doubt"),
    "a header without a colon": (f"HTTP/1.1 200 OK\r\n{MARK}\r\n\r\n".encode(), 502, "doubt"),
    "a header with a bad name": (f"HTTP/1.1 200 OK\r\n{MARK} : x\r\n\r\n".encode(), 502, "doubt"),
    "a length that is none": (f"HTTP/1.1 200 OK\r\nContent-Length: {MARK}\r\n\r\n".encode(), 502, "doubt"),
    "an encoding that is none": (f"HTTP/1.1 200 OK\r\nTransfer-Encoding: {MARK}\r\n\r\n{MARK}".encode(), 502, "doubt"),
    "a chunk without a length": (f"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n{MARK}\r\n".encode(), 502, "doubt"),
    "no gzip": (http(MARK, "200 OK", "application/json", "Content-Encoding: gzip"), 502, "doubt"),
    "an answer cut short": (http(f'{{"x": "{MARK}"', "200 OK", "application/json", "Content-Length: 9999"), 502, "doubt"),
    "an error cut short": (http(MARK, "400 Bad", "application/json", "Content-Length: 9999"), 502, "released"),
    "400": (error("400 Bad Request"), 502, "released"),
    "405": (error("405 No"), 502, "released"),
    "409": (error(f"409 {MARK}"), 502, "released"),
    "422": (http(f"<html>Bearer {MARK}</html>", "422 No", "text/html"), 502, "released"),
    "400 with long words": (http(f"{'w' * 190}{MARK}{'w' * 5000}", "400 No"), 502, "released"),
    "401": (error("401 No"), 503, "released"),
    "404": (error("404 No"), 503, "released"),
    "429": (error("429 No", f"Retry-After: {MARK}"), 429, "released"),
    "302": (http("", "302 Found", "text/plain", f"Location: http://{MARK}/"), 503, "released"),
    "500": (error("500 No", f"x-request-id: {MARK}"), 502, "doubt"),
    "503": (error("503 No", f"request-id: {MARK}"), 503, "released"),
    "no JSON": (http(MARK), 502, "doubt"),
    "a usage of words": (http(json.dumps({"choices": [], "usage": {**USAGE, "prompt_tokens": MARK}})), 502, "doubt"),
    "details of words": (http(json.dumps({"choices": [], "usage": {**USAGE, "prompt_tokens_details": MARK}})), 502, "doubt"),
    "an error in place of choices": (http(json.dumps({"error": {"message": MARK, "code": 400}})), 502, "released"),
    "an error of no number": (http(json.dumps({"error": {"message": MARK, "code": MARK}})), 502, "doubt"),
    "an answer that says it": (answer(said(f"it is {MARK}")), 502, "settled"),
    "an answer that says it in parts": (answer(said([{"type": "text", "text": MARK}])), 502, "settled"),
    "an answer that thinks it": (answer(said("42", reasoning_content=MARK)), 502, "settled"),
    "a refusal": (answer(said(None, refusal=MARK)), 502, "settled"),
    "a text": (answer({"text": MARK}), 502, "settled"),
    "a model": (answer(said("42"), model=MARK), 502, "settled"),
    "an id": (answer(said("42"), id=MARK), 502, "settled"),
    "how it ended": (answer({**said("42"), "finish_reason": MARK}), 502, "settled"),
    "a token": (answer({**said("42"), "logprobs": {"content": [{"token": MARK, "logprob": -1}]}}), 502, "settled"),
    "an alternative": (answer({"text": "a", "logprobs": {"tokens": ["a"], "top_logprobs": [{MARK: -1}]}}), 502, "settled"),
    "a name in the usage": (answer(said("42"), usage={**USAGE, MARK: 1}), 502, "settled"),
    "a field that nobody knows": (answer({**said("42"), "debug": MARK}, headers={"Authorization": MARK}), 200, "settled"),
    "a header that nobody reads": (answer(said("42")).replace(b"Connection", f"x-debug: {MARK}\r\nConnection".encode()), 200, "settled"),
}  # fmt: skip


def events(*parts: Any, usage: bool = True, done: bool = True) -> bytes:
    chunks = [part if isinstance(part, str) else json.dumps(part) for part in parts]
    chunks += [json.dumps({"choices": [], "usage": USAGE})] if usage else []
    return http("".join(f"data: {chunk}\n\n" for chunk in [*chunks, *(["[DONE]"] if done else [])]), "200 OK", "text/event-stream")


def delta(**fields: Any) -> dict[str, Any]:
    return {"choices": [{"index": 0, "delta": fields}]}


END = {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}
STREAMS: dict[str, tuple[bytes, str]] = {
    "at once": (events(delta(content="it is "), delta(content=MARK), END), "settled"),
    "in the thoughts": (events(delta(reasoning=MARK), END), "settled"),
    "in a field that nobody knows": (events(delta(content="a"), {**delta(content="b"), "x": MARK}, END), "settled"),
    "an error": (events({"error": {"message": MARK, "code": 500}}, usage=False), "doubt"),
    "an error that was no work": (events({"error": {"message": MARK, "code": 429}}, usage=False), "released"),
    "no JSON": (events(MARK, END), "settled"),
    "cut": (events(delta(content="a"), f'{{"x": "{MARK}', usage=False, done=False), "doubt"),
}


class Raw:
    """Reads a request and answers with bytes."""

    def __init__(self) -> None:
        self.reply = b""
        self.requests = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        length = next((int(line.split(":")[1]) for line in head.split("\r\n") if line.lower().startswith("content-length")), 0)
        await reader.readexactly(length)
        # a probe of the gateway asks for the models
        post = head.startswith("POST")
        self.requests += post
        writer.write(self.reply if post else http("{}"))
        writer.close()


@pytest.fixture
async def raw(gate: Gate) -> AsyncIterator[Raw]:
    teacher = Raw()
    server = await asyncio.start_server(teacher.serve, "127.0.0.1", 0)
    url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1"
    credential = gate.asking.law.credentials._by_name["openai"]
    credential.entry.base_urls.append(url)
    (credential._folder / "key").write_text(f"{KEY}\n")
    gate.objects.apply(budget(url))
    gate.time.forward(minutes=10)
    yield teacher
    server.close()
    await server.wait_closed()


def leaks(where: str, form: str) -> list[str]:
    """Pieces of the key in a text; the sentence around each is what a test prints."""
    form = form.removeprefix("QmVhcmVyI")  # the word Bearer is no secret
    found = {text[at : at + 8] for text in (KEY, form) for at in range(len(text) - 7)}
    return [piece for piece in found if piece.lower() in where.lower()]


def rows(folder: Path) -> str:
    """Everything that the ledger's file holds, answers unpacked."""
    found: list[Any] = []
    with sqlite3.connect(folder / "ledger.db") as database:
        for (table,) in database.execute("select name from sqlite_master where type = 'table'").fetchall():
            found += [cell for row in database.execute(f"select * from {table}") for cell in row]
    return "\n".join(zlib.decompress(cell).decode() if isinstance(cell, bytes) else str(cell) for cell in found)


def booked(rows_before: dict[str, int], window: Any) -> str:
    if window.settled > rows_before["settled"]:
        return "settled"
    return "doubt" if window.in_doubt > rows_before["doubt"] else "released"


async def one(gate: Gate, question: str, **more: Any) -> tuple[Any, str]:
    """A reply, and how its hold ended."""
    before = await gate.window()
    gate.time.forward(minutes=10)
    reply = await gate.ask(question, **more)
    after = await gate.window()
    assert after.held == 0
    return reply, booked({"settled": before.settled, "doubt": before.in_doubt}, after)


def nowhere(form: str, told: str, caplog: pytest.LogCaptureFixture, folder: Path) -> None:
    """Neither told, nor logged, nor kept."""
    logged = "\n".join(JsonFormatter().format(record) for record in caplog.records)
    for place, text in {"told": told, "logged": caplog.text + logged, "kept": rows(folder)}.items():
        assert (place, leaks(text, form)) == (place, [])


@pytest.mark.parametrize("name", REPLIES)
async def test_no_reply_carries_the_key(gate: Gate, raw: Raw, name: str, caplog: pytest.LogCaptureFixture, tmp_path: Path) -> None:
    caplog.set_level(logging.DEBUG)
    reply, status, end = REPLIES[name]
    for number, form in enumerate(FORMS.values()):
        raw.reply = reply.replace(MARK.encode(), form.encode())
        told, ended = await one(gate, f"{name} {number}")
        assert (told.status, ended) == (status, end)
        nowhere(form, f"{told.text} {told.headers}", caplog, tmp_path)
        again, _ = await one(gate, f"{name} {number}")
        assert again.status != 200 or again.cache == "hit"
    assert raw.requests == len(FORMS) * (1 if status == 200 else 2)


@pytest.mark.parametrize("name", STREAMS)
async def test_no_stream_carries_the_key(gate: Gate, raw: Raw, name: str, caplog: pytest.LogCaptureFixture, tmp_path: Path) -> None:
    caplog.set_level(logging.DEBUG)
    reply, end = STREAMS[name]
    for number, form in enumerate(FORMS.values()):
        raw.reply = reply.replace(MARK.encode(), form.encode())
        told, ended = await one(gate, f"{name} {number}", stream=True)
        assert ended == end
        assert '"error"' in told.text
        nowhere(form, told.text, caplog, tmp_path)


async def test_a_key_that_is_spread_over_a_stream_is_stopped_before_its_eighth_character(
    gate: Gate, raw: Raw, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    raw.reply = events(*(delta(content=letter) for letter in f"it is {KEY}"), END)
    told, ended = await one(gate, "?", stream=True)
    text = "".join(
        chunk["choices"][0]["delta"].get("content", "")
        for chunk in (json.loads(line[6:]) for line in told.text.split("\n\n") if '"choices"' in line)
    )
    assert ended == "settled"
    assert text.startswith("it is sk-live-")
    assert leaks(text.removeprefix("it is sk-live-"), KEY) == []
    assert "cannot be used: it repeats the key" in told.text
    nowhere(KEY, "", caplog, tmp_path)


UNKNOWN = {
    "a tool's arguments": lambda letter: delta(tool_calls=[{"index": 0, "function": {"arguments": letter}}]),
    "a field of the delta": lambda letter: delta(x=letter),
    "a field of the choice": lambda letter: {"choices": [{"index": 0, "delta": {}, "x": letter}]},
    "a field of the chunk": lambda letter: {**delta(), "x": letter},
    "its name": lambda letter: {**delta(), "id": letter},
    "the tokens": lambda letter: {"choices": [{"index": 0, "delta": {}, "logprobs": {"content": [{"token": letter, "logprob": 0.0}]}}]},
}


@pytest.mark.parametrize("where", UNKNOWN)
async def test_no_key_is_spelled_beside_the_text_of_a_stream(
    gate: Gate, raw: Raw, where: str, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    letters = [UNKNOWN[where](letter) for letter in KEY]
    raw.reply = events(delta(content="42"), *letters, END)
    told, ended = await one(gate, "?", stream=True)
    assert ended == "settled"
    assert '"42"' in told.text
    parts = [json.loads(line[6:]) for line in told.text.split("\n\n") if '"choices"' in line]
    said = "".join(text for part in parts for text in strings(part))
    assert leaks(said.replace("sk-live-", ""), KEY) == []
    nowhere(KEY, told.text, caplog, tmp_path)


def strings(value: Any) -> list[str]:
    """All that are in it."""
    if isinstance(value, str):
        return [value]
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return [text for each in inner for text in strings(each)]


async def test_a_whole_answer_whose_tokens_spell_the_key_is_not_kept(gate: Gate, raw: Raw) -> None:
    logprobs = {"content": [{"token": letter, "logprob": 0.0} for letter in KEY]}
    raw.reply = answer({**said("42"), "logprobs": logprobs})
    told, ended = await one(gate, "?")
    assert (told.status, ended) == (502, "settled")
    assert "repeats the key" in told.text


async def test_a_key_behind_escapes_is_the_key(gate: Gate, raw: Raw, caplog: pytest.LogCaptureFixture, tmp_path: Path) -> None:
    escaped = "".join(f"\\u{ord(letter):04x}" for letter in KEY)
    raw.reply = answer(said(MARK)).replace(MARK.encode(), escaped.encode())
    told, ended = await one(gate, "whole")
    raw.reply = events(delta(content=MARK), END).replace(MARK.encode(), escaped.encode())
    streamed, streamed_end = await one(gate, "streamed", stream=True)
    assert (told.status, ended, streamed_end) == (502, "settled", "settled")
    nowhere(KEY, told.text + streamed.text, caplog, tmp_path)


async def test_whatever_fails_in_the_gateway_itself_tells_no_key(
    gate: Gate, raw: Raw, caplog: pytest.LogCaptureFixture, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After the first byte it is in doubt, before it is released; neither is an error without a remedy."""

    def fails(*_: Any) -> None:
        raise RuntimeError(f"Bearer {KEY}")

    raw.reply = answer(said("42"))
    monkeypatch.setattr("distillery.gateway.teachers.receiving.of_answer", fails)
    after, after_end = await one(gate, "after")
    monkeypatch.setattr("distillery.gateway.teachers.teacher.Teacher._connections", fails)
    before, before_end = await one(gate, "before")
    assert (after.status, after.code, after_end) == (502, "in_doubt", "doubt")
    assert (before.status, before.code, before_end) == (503, "gateway_unavailable", "released")
    nowhere(KEY, after.text + before.text, caplog, tmp_path)

"""Nothing is in doubt that was not sent: what fails before the first byte is refused before a hold, or released."""

import json
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from tests.unit.gateway.conftest import Gate
from tests.unit.gateway.teacher_double import drops


def key_file(gate: Gate) -> Path:
    return gate.asking.law.credentials._by_name["openai"]._folder / "key"


@pytest.mark.parametrize(
    "content",
    [b"sk-live\nsk-other", b"sk live", b"sk-\xc3\xa9", b"sk-\xff", b"\xef\xbb\xbfsk-live", b"sk-\x00", b"k" * 5000, b"", b"\n"],
)
async def test_a_key_that_no_header_can_hold_is_refused_before_anything_is_held(gate: Gate, content: bytes) -> None:
    key_file(gate).write_bytes(content)
    reply = await gate.ask()
    reserved = await gate.request("PUT", "/v1/reservations/nlp/arith/uid-arith", json={"requests": 1, "longestPromptBytes": 9})
    assert (reply.status, reply.code) == (403, "credential_missing")
    assert 'credential "openai": file key of the gateway' in reply.json["error"]["message"]
    assert "the Secret" in reply.json["error"]["message"]
    assert reserved.json["reason"] == "CredentialMissing"
    assert (await gate.asking.ledger.head()).sequence == 0
    assert gate.teacher.bodies == []


async def test_a_key_that_cannot_be_read_is_a_refusal_too(gate: Gate) -> None:
    key_file(gate).unlink()
    key_file(gate).mkdir()
    reply = await gate.ask()
    assert (reply.status, reply.code) == (403, "credential_missing")
    assert "cannot be read (IsADirectoryError)" in reply.json["error"]["message"]


async def test_a_key_that_is_spoilt_between_two_requests_costs_no_doubt(gate: Gate) -> None:
    assert (await gate.ask("a")).status == 200
    key_file(gate).write_text("sk-live\nsk-other")
    gate.time.forward(seconds=10)
    assert [(await gate.ask(f"b{k}")).code for k in range(3)] == ["credential_missing"] * 3
    window = await gate.window()
    assert (window.in_doubt, window.held) == (0, 0)
    key_file(gate).write_text("sk-new")
    gate.time.forward(seconds=10)
    assert (await gate.ask("b")).status == 200


@pytest.mark.parametrize("stream", [False, True])
async def test_half_a_character_in_a_parameter_holds_nothing(gate: Gate, stream: bool) -> None:
    for number in range(20):
        body = {**gate.defaults, "messages": [{"role": "user", "content": str(number)}], "stop": "\ud800", "stream": stream}
        headers = {"Content-Type": "application/json"}
        reply = await gate.request("POST", "/v1/chat/completions", "pod:nlp/arith/traces", data=json.dumps(body), headers=headers)
        assert (reply.status, reply.json["error"]["param"]) == (400, "stop")
    assert (await gate.asking.ledger.head()).sequence == 0


async def test_a_connection_that_closes_before_the_first_byte_bills_nothing(gate: Gate, monkeypatch: pytest.MonkeyPatch) -> None:
    connect = aiohttp.TCPConnector.connect

    async def closed(self: aiohttp.TCPConnector, *given: Any, **more: Any) -> Any:
        connection = await connect(self, *given, **more)
        if given[0].method == "POST" and given[0].url.port != int(gate.url.rpartition(":")[2]):
            assert connection.transport is not None
            connection.transport.close()
        return connection

    monkeypatch.setattr(aiohttp.TCPConnector, "connect", closed)
    reply = await gate.ask()
    window = await gate.window()
    assert (reply.status, reply.code) == (503, "teacher_unavailable")
    assert (window.settled, window.held, window.in_doubt) == (0, 0, 0)
    assert gate.teacher.bodies == []
    assert '"why":"not-sent"' in (await gate.asking.ledger.entries(0, 100))[-1]


async def test_a_connection_that_closes_after_it_is_in_doubt(gate: Gate) -> None:
    gate.teacher.script.append(drops)
    assert (await gate.ask()).code == "in_doubt"
    assert (await gate.window()).in_doubt > 0


async def test_a_certificate_that_is_none_bills_nothing(gate: Gate) -> None:
    secure = gate.teacher_url.replace("http://", "https://")
    gate.asking.law.credentials._by_name["openai"].entry.base_urls.append(secure)
    known = gate.objects.budgets["nlp", "team-a"]
    teacher = {**known["spec"]["teachers"][0], "baseURL": secure}
    gate.objects.apply({**known, "spec": {**known["spec"], "teachers": [teacher]}})
    gate.time.forward(seconds=10)
    reply = await gate.ask()
    window = await gate.window()
    assert (reply.status, reply.code) == (503, "teacher_unavailable")
    assert (window.settled, window.held, window.in_doubt) == (0, 0, 0)

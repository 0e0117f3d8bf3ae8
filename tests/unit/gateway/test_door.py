"""Whoever is not known costs little: proofs and refusals are rationed by address, one proof serves all who wait for it, halves time out."""

import asyncio
import gzip
from collections import Counter
from urllib.parse import urlsplit

import pytest
from tests.loopback import Objects
from tests.unit.gateway.conftest import Gate

from distillery.cluster import Body
from distillery.gateway import http
from distillery.gateway.door import Bearer, Door
from distillery.gateway.errors import Refused
from distillery.gateway.identity import Identities
from distillery.gateway.server import application
from distillery.health import serving


class Clock:
    def __init__(self) -> None:
        self.time = 0.0

    def __call__(self) -> float:
        return self.time


class Counting(Objects):
    """Counts reviews, which take a moment."""

    def __init__(self) -> None:
        super().__init__()
        self.reviews = 0

    async def review_token(self, token: str, audience: str) -> Body:
        self.reviews += 1
        await asyncio.sleep(0)
        return await super().review_token(token, audience)


def test_each_address_has_a_bucket_of_its_own_and_the_table_an_end() -> None:
    clock = Clock()
    door = Door(clock)
    for _ in range(50):
        door.spend("a")
    with pytest.raises(Refused) as told:
        door.spend("a")
    assert (told.value.status, told.value.retry_after) == (429, 1.0)
    door.spend("b")
    clock.time = 1.0
    for _ in range(10):
        door.spend("a")
    with pytest.raises(Refused):
        door.spend("a")
    for number in range(10_000):
        door.spend(str(number))
    assert len(door._left) == 4096


async def test_invented_tokens_cost_the_api_server_no_more_than_the_ration() -> None:
    clock, objects = Clock(), Counting()
    identities, told = Identities(objects, clock, Door(clock)), Counter[int]()
    for number in range(500):
        with pytest.raises(Refused) as error:
            await identities.account(Bearer(f"invented-{number}", "10.0.0.1"))
        told[error.value.status] += 1
    assert told == {401: 50, 429: 450}
    assert objects.reviews == 50
    assert (await identities.account(Bearer("operator", "10.0.0.2"))).name == "operator"


async def test_an_expired_verdict_is_looked_up_once_however_many_ask() -> None:
    clock, objects = Clock(), Counting()
    identities = Identities(objects, clock, Door(clock))
    bearer = Bearer("operator", "10.0.0.1")
    await identities.account(bearer)
    clock.time = 61.0
    await asyncio.gather(*(identities.account(bearer) for _ in range(400)))
    assert objects.reviews == 2


async def test_requests_without_a_token_are_rationed_and_a_known_pod_of_that_address_is_not(gate: Gate) -> None:
    assert (await gate.ask()).status == 200
    told = Counter[int]()
    for _ in range(200):
        told[(await gate.request("GET", "/v1/models", None)).status] += 1
    assert told[401] <= 50
    assert told[429] >= 150
    assert (await gate.ask()).status == 200


async def half_sent(url: str, sent: bytes) -> bytes:
    """What comes back for a part of a request."""
    place = urlsplit(url)
    reader, writer = await asyncio.open_connection(place.hostname, place.port)
    writer.write(sent)
    try:
        return await asyncio.wait_for(reader.read(), 30)
    finally:
        writer.close()


@pytest.mark.parametrize("sent", [b"", b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\nx-a"])
async def test_half_a_head_ends_the_connection(sent: bytes) -> None:
    async with serving(application([], Door(Clock())), "127.0.0.1", 0, head_seconds=0.1) as port:
        assert await half_sent(f"http://127.0.0.1:{port}", sent) == b""


async def test_half_a_body_is_refused_after_a_while(gate: Gate, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http, "BODY_SECONDS", 0.1)
    head = b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\nauthorization: Bearer pod:nlp/arith/traces\r\ncontent-length: 1000\r\n\r\n{"
    said = await half_sent(gate.url, head)
    assert said.startswith(b"HTTP/1.1 408 ")
    assert b"connection: close" in said.lower()
    assert gate.asking.rooms[0].used == 0


async def test_a_token_of_strange_bytes_is_no_fault(gate: Gate) -> None:
    said = await half_sent(gate.url, b"GET /v1/models HTTP/1.1\r\nhost: x\r\nauthorization: Bearer pod:\xff\xfe\r\n\r\n")
    assert said.startswith(b"HTTP/1.1 401 ")


async def test_a_body_that_is_packed_behind_a_second_header_is_not_read(gate: Gate) -> None:
    packed = gzip.compress(b" " * (64 << 20))
    head = "POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\nauthorization: Bearer pod:nlp/arith/traces\r\nconnection: close\r\n"
    head += f"content-encoding: identity\r\ncontent-encoding: gzip\r\ncontent-length: {len(packed)}\r\n\r\n"
    assert (await half_sent(gate.url, head.encode() + packed)).startswith((b"HTTP/1.1 415 ", b"HTTP/1.1 400 "))
    assert gate.asking.rooms[0].used == 0

"""Bodies of answers in an object store: moved once, found again, and never bought twice because a store is slow."""

import gzip
from collections.abc import AsyncIterator

import pytest
from aiohttp import web
from tests.unit.gateway.conftest import Gate

from distillery.gateway.bodies import Bodies
from distillery.gateway.errors import StoreUnavailable
from distillery.health import serving

AWS = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test", "AWS_EC2_METADATA_DISABLED": "true"}


class Bucket:
    """As much of S3 as is used: objects, If-None-Match, and a status to fail with."""

    def __init__(self) -> None:
        self.objects: dict[str, bytes] = {}
        self.fails: int | None = None
        self.puts = 0

    def app(self) -> web.Application:
        app = web.Application()
        app.add_routes([web.put("/{key:.*}", self._put), web.get("/{key:.*}", self._get)])
        return app

    async def _put(self, request: web.Request) -> web.Response:
        self.puts += 1
        if self.fails:
            return web.Response(status=self.fails)
        if request.match_info["key"] in self.objects and request.headers.get("If-None-Match") == "*":
            return error(412, "PreconditionFailed")
        self.objects[request.match_info["key"]] = await request.read()
        return web.Response(headers={"ETag": '"x"'})

    async def _get(self, request: web.Request) -> web.Response:
        if self.fails:
            return web.Response(status=self.fails)
        body = self.objects.get(request.match_info["key"])
        return error(404, "NoSuchKey") if body is None else web.Response(body=body)


def error(status: int, code: str) -> web.Response:
    return web.Response(status=status, text=f"<Error><Code>{code}</Code></Error>", content_type="application/xml")


@pytest.fixture
def bucket() -> Bucket:
    return Bucket()


@pytest.fixture
async def bodies(bucket: Bucket, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Bodies]:
    for name, value in AWS.items():
        monkeypatch.setenv(name, value)
    async with serving(bucket.app(), "127.0.0.1", 0) as port:
        found = Bodies("s3://team/answers/", {"AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}"})
        yield found
        found.close()


async def test_a_body_lies_under_its_digest_and_is_put_once(bodies: Bodies, bucket: Bucket) -> None:
    body, digest = b'{"a": 1}', "ab" + "0" * 62
    first, second = await bodies.put(digest, body), await bodies.put(digest, body)
    assert first == second == f"s3://team/answers/ab/{digest}.json.gz"
    assert gzip.decompress(bucket.objects[f"team/answers/ab/{digest}.json.gz"]) == body


@pytest.mark.parametrize("uri", ["team/answers", "gs://team", "s3://", "s3:///x"])
def test_where_bodies_cannot_lie(uri: str) -> None:
    with pytest.raises(ValueError, match="give s3://bucket/prefix"):
        Bodies(uri, {})


async def test_a_moved_answer_is_a_hit(gate: Gate, bodies: Bodies, bucket: Bucket) -> None:
    gate.asking.answers._bodies = bodies
    bought = await gate.ask()
    assert await gate.asking.answers.move() == 1
    assert await gate.asking.answers.move() == 0
    stored = await gate.asking.ledger.answer(bought.headers["X-Distillery-Answer"])
    assert stored is not None
    assert stored.body is None
    again = await gate.ask()
    assert (again.cache, again.text) == ("hit", bought.text)
    assert bucket.puts == 1


async def test_a_store_that_does_not_answer_is_no_reason_to_buy_again(gate: Gate, bodies: Bodies, bucket: Bucket) -> None:
    gate.asking.answers._bodies = bodies
    await gate.ask()
    await gate.asking.answers.move()
    bucket.fails = 403
    reply = await gate.ask()
    assert (reply.status, reply.code, reply.headers["Retry-After"]) == (503, "gateway_unavailable", "5")
    with pytest.raises(StoreUnavailable):
        await bodies.put("ab", b"x")
    bucket.fails = None
    assert (await gate.ask()).cache == "hit"
    assert len(gate.teacher.bodies) == 1


@pytest.mark.parametrize("damage", [None, b"no gzip", gzip.compress(b"another", mtime=0), gzip.compress(b"a" * 99)[:12] + b"\xff" * 30])
async def test_a_body_that_is_gone_or_damaged_is_bought_again_and_then_kept(
    gate: Gate, bodies: Bodies, bucket: Bucket, damage: bytes | None
) -> None:
    gate.asking.answers._bodies = bodies
    await gate.ask()
    await gate.asking.answers.move()
    (name,) = bucket.objects
    if damage is None:
        bucket.objects.clear()
    else:
        bucket.objects[name] = damage
    assert [(await gate.ask()).cache for _ in range(2)] == ["miss", "hit"]

"""The operator reads progress, and never waits long or fails for it."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from distillery.gateway_client import PAUSE, HttpGateway, NoGateway
from distillery.metrics import Metrics

JOB = ("nlp", "arith", "u1")


class Remote:
    """A gateway that answers as a test says, after `seconds`."""

    def __init__(self) -> None:
        self.answer: Any = {"train": {"stage": "train", "percentage": 40}}
        self.status = 200
        self.hangs = False
        self.requests: list[web.Request] = []

    async def get(self, request: web.Request) -> web.Response:
        self.requests.append(request)
        if self.hangs:
            await asyncio.Event().wait()
        return web.json_response(self.answer, status=self.status)


@pytest.fixture
def remote() -> Remote:
    return Remote()


@pytest.fixture
async def gateway(remote: Remote, tmp_path: Path) -> AsyncIterator[HttpGateway]:
    app = web.Application()
    app.router.add_get("/v1/progress", remote.get)
    (tmp_path / "token").write_text("secret\n")
    async with TestServer(app) as server, HttpGateway(str(server.make_url("/")), tmp_path / "token", Metrics()) as found:
        yield found


async def test_reports_by_stage(gateway: HttpGateway, remote: Remote) -> None:
    found = await gateway.progress(*JOB)
    assert found["train"].percentage == 40
    (request,) = remote.requests
    assert request.query == {"namespace": "nlp", "job": "arith", "uid": "u1"}
    assert request.headers["Authorization"] == "Bearer secret"


@pytest.mark.parametrize(
    ("status", "answer"),
    [(503, {}), (403, {"error": {}}), (200, {"train": {"stage": "train", "percentage": 400}}), (200, ["what"])],
)
async def test_a_gateway_that_fails_is_no_progress_and_is_left_alone(
    gateway: HttpGateway, remote: Remote, status: int, answer: object
) -> None:
    remote.status, remote.answer = status, answer
    assert await gateway.progress(*JOB) == {}
    assert await gateway.progress(*JOB) == {}
    assert len(remote.requests) == 1


@pytest.mark.looptime
async def test_a_gateway_that_hangs_costs_two_seconds_once_and_is_asked_again_later(tmp_path: Path, remote: Remote) -> None:
    remote.hangs = True
    app = web.Application()
    app.router.add_get("/v1/progress", remote.get)
    (tmp_path / "token").write_text("secret")
    clock = asyncio.get_running_loop().time
    async with TestServer(app) as server, HttpGateway(str(server.make_url("/")), tmp_path / "token", Metrics()) as gateway:
        assert await gateway.progress(*JOB) == {}
        assert await gateway.progress(*JOB) == {}
        assert clock() == pytest.approx(2, abs=0.5)
        remote.hangs = False
        await asyncio.sleep(PAUSE)
        assert list(await gateway.progress(*JOB)) == ["train"]


async def test_no_server_and_no_token_are_no_progress(tmp_path: Path) -> None:
    async with HttpGateway("http://127.0.0.1:1", tmp_path / "absent", Metrics()) as gateway:
        assert await gateway.progress(*JOB) == {}
    (tmp_path / "token").write_text("secret")
    async with HttpGateway("http://127.0.0.1:1", tmp_path / "token", Metrics()) as gateway:
        assert await gateway.progress(*JOB) == {}


async def test_an_installation_without_gateway_has_no_progress() -> None:
    assert await NoGateway().progress(*JOB) == {}

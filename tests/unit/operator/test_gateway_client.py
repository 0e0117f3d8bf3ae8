"""The operator reads progress and speaks of money, and never waits long or fails for it."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from distillery.api.usage import BudgetSnapshot, Reservation, ReservationRequest
from distillery.gateway_client import PAUSE, HttpGateway, NoGateway
from distillery.metrics import Metrics
from distillery.observe import Silence

JOB = ("nlp", "arith", "u1")


class Remote:
    """A gateway that answers as a test says, after `seconds`."""

    def __init__(self) -> None:
        self.answer: Any = {"train": {"stage": "train", "percentage": 40}}
        self.status = 200
        self.hangs = False
        self.requests: list[web.Request] = []
        self.bodies: list[str] = []

    async def get(self, request: web.Request) -> web.Response:
        self.requests.append(request)
        self.bodies.append(await request.text())
        if self.hangs:
            await asyncio.Event().wait()
        return web.json_response(self.answer, status=self.status)


@pytest.fixture
def remote() -> Remote:
    return Remote()


@pytest.fixture
async def gateway(remote: Remote, tmp_path: Path) -> AsyncIterator[HttpGateway]:
    app = web.Application()
    app.router.add_route("*", "/v1/{path:.*}", remote.get)
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


NEED = ReservationRequest(requests=20, longest_prompt_bytes=900)


async def test_a_reservation_is_put_and_deleted_at_the_jobs_own_address(gateway: HttpGateway, remote: Remote) -> None:
    remote.answer = {"state": "Granted", "reason": "BudgetReserved", "usage": {"requests": 3, "cost": "0.10"}}
    granted = await gateway.reserve("nlp", "arith", "u/1", NEED)
    assert isinstance(granted, Reservation)
    assert (granted.state, granted.usage.cost) == ("Granted", "0.10")
    await gateway.give_back("nlp", "arith", "u/1")
    assert [(r.method, r.raw_path) for r in remote.requests] == [
        ("PUT", "/v1/reservations/nlp/arith/u%2F1"),
        ("DELETE", "/v1/reservations/nlp/arith/u%2F1"),
    ]
    assert ReservationRequest.model_validate_json(remote.bodies[0]) == NEED


async def test_a_budget_is_read(gateway: HttpGateway, remote: Remote) -> None:
    remote.answer = {"windows": [{"name": "daily", "id": "2026-01-01", "limit": "10.00"}], "saved": "0.10"}
    found = await gateway.budget("nlp", "team")
    assert isinstance(found, BudgetSnapshot)
    assert found.windows[0].limit == "10.00"
    assert remote.requests[0].path == "/v1/budgets/nlp/team"


@pytest.mark.parametrize(
    ("status", "answer", "words"),
    [
        (503, {"error": {"message": "the ledger is gone"}}, "503 the ledger is gone"),
        (404, {"error": {"message": "no budget"}}, "404 no budget"),
        (500, ["what"], "500"),
        (200, {"state": "Perhaps"}, "do not fit each other"),
    ],
)
async def test_silence_is_no_grant_and_says_why(gateway: HttpGateway, remote: Remote, status: int, answer: object, words: str) -> None:
    remote.status, remote.answer = status, answer
    found = await gateway.reserve("nlp", "arith", "u1", NEED)
    assert isinstance(found, Silence)
    assert words in found.message


async def test_a_no_about_one_object_silences_no_other(gateway: HttpGateway, remote: Remote) -> None:
    remote.status = 404
    await gateway.reserve("nlp", "gone", "u1", NEED)
    remote.status = 200
    assert list(await gateway.progress(*JOB)) == ["train"]


async def test_an_installation_without_gateway_grants_nothing() -> None:
    nobody = NoGateway()
    assert isinstance(await nobody.reserve("nlp", "arith", "u1", NEED), Silence)
    assert isinstance(await nobody.budget("nlp", "team"), Silence)
    assert isinstance(await nobody.give_back("nlp", "arith", "u1"), Reservation)

"""Two gateways on one Postgres: nothing is bought twice, and a provider's limits are kept over both. `-s` prints figures."""

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from tests.contract.ledger.conftest import database, postgres
from tests.loopback import Objects, gateway, law
from tests.unit.gateway.conftest import budget, job, teacher_spec

from distillery.gateway.assembly import Asking
from distillery.gateway.credentials import Credentials
from distillery.gateway.ledger import Why, commands
from distillery.health import serving

__all__ = ["database", "postgres"]
QUESTIONS, PER_MINUTE = 200, 600
POD = {"Authorization": "Bearer pod:nlp/arith/traces"}


class Teacher:
    """Answers when it is let; notes what was asked, and when."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, float]] = []
        self.gate = asyncio.Event()
        self.gate.set()

    def app(self) -> web.Application:
        app = web.Application()
        app.add_routes([web.post("/v1/chat/completions", self._answer)])
        return app

    async def _answer(self, request: web.Request) -> web.Response:
        text = (await request.json())["messages"][0]["content"]
        self.asked.append((text, time.monotonic()))
        await self.gate.wait()
        choice = {"index": 0, "message": {"role": "assistant", "content": f"to {text}"}, "finish_reason": "stop"}
        usage = {"prompt_tokens": 5, "completion_tokens": 5}
        return web.json_response({"id": "x", "object": "chat.completion", "model": "m", "choices": [choice], "usage": usage})


@dataclass
class Two:
    """Both, their teacher, and what a pod's request to one of them gives."""

    urls: list[str]
    askings: list[Asking]
    teacher: Teacher
    database: str
    http: aiohttp.ClientSession

    async def ask(self, which: int, text: str) -> tuple[int, str, str]:
        """Status, what of the cache, and the answer."""
        body = {"model": "gpt-x", "max_completion_tokens": 50, "messages": [{"role": "user", "content": text}]}
        async with self.http.post(f"{self.urls[which]}/v1/chat/completions", json=body, headers=POD) as response:
            found = await response.json()
            if response.status != 200:
                return response.status, "", found["error"]["code"]
            return 200, response.headers["X-Distillery-Cache"], found["choices"][0]["message"]["content"]


@pytest.fixture
async def two(request: pytest.FixtureRequest, database: str) -> AsyncIterator[Two]:
    limits: dict[str, Any] = {"maxConcurrency": 512, **getattr(request, "param", {})}
    teacher, objects = Teacher(), Objects()
    async with AsyncExitStack() as stack:
        port = await stack.enter_async_context(serving(teacher.app(), "127.0.0.1", 0))
        url = f"http://127.0.0.1:{port}/v1"
        objects.apply(budget("", {"total": "5.00"}, teachers=[teacher_spec(url, credential=None, rateLimits=limits)]))
        objects.apply(job())
        found = law(Credentials((), {url}, time.monotonic))
        served = [await stack.enter_async_context(gateway(objects, found, database, timeout=20.0)) for _ in range(2)]
        # each hears of the other now, and not with the next sign of life
        for _, asking in served:
            await asking.sweep()
        assert [await asking.sweep() for _, asking in served] == [0.5, 0.5]
        http = await stack.enter_async_context(aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)))
        for url, _ in served:
            # a pod's first question proves its token; hundreds of strangers at once would be sent away
            async with http.get(f"{url}/v1/models", headers=POD) as known:
                assert known.status == 200
        yield Two([url for url, _ in served], [asking for _, asking in served], teacher, database, http)


async def test_a_question_that_both_are_asked_at_once_is_bought_once(two: Two) -> None:
    """The other gateway waits and then gives the kept answer, for nothing."""
    started = time.monotonic()
    found = await asyncio.gather(*(two.ask(which, f"question {number}") for number in range(QUESTIONS) for which in (0, 1)))
    seconds = time.monotonic() - started
    assert {status for status, _, _ in found} == {200}, {code for status, _, code in found if status != 200}
    asked = Counter(text for text, _ in two.teacher.asked)
    assert asked == {f"question {number}": 1 for number in range(QUESTIONS)}
    for number in range(QUESTIONS):
        (_, first, answer), (_, second, same) = found[2 * number : 2 * number + 2]
        assert {first, second} == {"miss", "hit"}
        assert answer == same == f"to question {number}"
    assert await asyncio.to_thread(commands.main, ["verify", "--database", two.database]) == 0
    print(f"\n{QUESTIONS} questions, each at both gateways: the teacher saw {len(two.teacher.asked)}, in {seconds:.1f} s")


@pytest.mark.parametrize("two", [{"requestsPerMinute": PER_MINUTE}], indirect=True)
async def test_both_together_keep_to_the_providers_limit(two: Two) -> None:
    """A tenth of a minute's requests may come at once, the rest flows in: after so many seconds no more than that were sent."""
    started, count = time.monotonic(), PER_MINUTE // 5
    found = await asyncio.gather(*(two.ask(number % 2, f"question {number}") for number in range(count)))
    assert {status for status, _, _ in found} == {200}, {code for status, _, code in found if status != 200}
    times = sorted(at - started for _, at in two.teacher.asked)
    burst, rate = PER_MINUTE / 10, PER_MINUTE * 0.9 / 60
    for number, at in enumerate(times, 1):
        assert number <= burst + rate * at + 2, f"{number} requests within {at:.2f} s"
    assert times[-1] <= (count - burst) / rate + 5, "and what both may send is used"
    print(f"\n{count} requests of {PER_MINUTE} a minute over two gateways: the last after {times[-1]:.1f} s")


async def test_a_doubt_of_the_other_gateway_is_not_bought_again_behind_its_back(two: Two, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who waits for it is told; whether to ask again is for the job to decide."""
    two.teacher.gate.clear()
    first = asyncio.create_task(two.ask(0, "a question"))
    async with asyncio.timeout(10):
        while not two.teacher.asked:
            await asyncio.sleep(0.01)
    other, waits, looked_up = two.askings[1].ledger, asyncio.get_running_loop().create_future(), two.askings[1].ledger.state

    async def state(hold: str) -> Any:
        if not waits.done():
            waits.set_result(hold)
        return await looked_up(hold)

    monkeypatch.setattr(other, "state", state)
    second = asyncio.create_task(two.ask(1, "a question"))
    await two.askings[0].ledger.doubt(await waits, two.askings[0].now(), Why.TIMEOUT)
    assert (await second)[0::2] == (502, "in_doubt")
    two.teacher.gate.set()
    await first
    assert len(two.teacher.asked) == 1

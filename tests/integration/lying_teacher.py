"""A teacher that lies: it bills what it never answered, answers without usage, cuts streams, and turns callers away in storms."""

import asyncio
import random
from collections import Counter
from dataclasses import dataclass, field

from aiohttp import web
from tests.unit.gateway.teacher_double import Behaviour, Body, answers, completion, cut_stream, drops, raw, status

#: As the budgets of the test have it, in nano-dollars a token.
INPUT, OUTPUT = 1000, 4000
_SOON = {"retry-after-ms": "20"}


@dataclass
class Seen:
    """One request that reached the teacher."""

    hold: str
    question: str
    billed: int
    """In nano-dollars, whatever it answered."""
    how: str


@dataclass
class LyingTeacher:
    """`rng` decides; `overruns` is the share of bills above every bound."""

    rng: random.Random
    overruns: float = 0.0
    seen: list[Seen] = field(default_factory=list)
    hangs: asyncio.Event = field(default_factory=asyncio.Event)
    """Never set: whoever waits for it is cut off by the caller's patience."""

    def app(self) -> web.Application:
        """The application."""
        app = web.Application()
        app.add_routes([web.post("/v1/chat/completions", self._answer)])
        return app

    def counted(self) -> dict[str, int]:
        """How many requests were met with what."""
        return dict(Counter(seen.how for seen in self.seen))

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        body = await request.json()
        usage = self._usage(body)
        how, behaviour, bills = self._choice(usage)
        if how == "answers" and self.rng.random() < self.overruns:
            usage["completion_tokens"], how = 1000 * usage["completion_tokens"], "answers, and bills above every bound"
        billed = usage["prompt_tokens"] * INPUT + usage["completion_tokens"] * OUTPUT if bills else 0
        question = body["messages"][0]["content"]
        self.seen.append(Seen(request.headers["X-Client-Request-Id"], question, billed, how))
        return await behaviour(request, body)

    def _usage(self, body: Body) -> Body:
        given, most = len(body["messages"][0]["content"]), body["max_completion_tokens"] * body.get("n", 1)
        made = self.rng.randint(1, most)
        return {"prompt_tokens": given, "completion_tokens": made, "total_tokens": given + made}

    def _choice(self, usage: Body) -> tuple[str, Behaviour, bool]:
        """How it behaves, and whether it bills for that."""
        good = answers(usage=usage)
        ways: list[tuple[float, str, Behaviour, bool]] = [
            (0.03, "429", status(429, headers=_SOON), False),
            (0.02, "503", status(503, headers=_SOON), False),
            (0.02, "400", status(400), False),
            (0.03, "500 and bills", status(500), True),
            (0.02, "502 and bills not", status(502), False),
            (0.03, "drops and bills", drops, True),
            (0.02, "no usage, and bills", answers(usage={}), True),
            (0.01, "no JSON, and bills", raw(b"<html>oops</html>"), True),
            (0.01, "hangs and bills", self._hang, True),
            (0.02, "cuts, and bills", self._cut(usage), True),
        ]
        at = self.rng.random()
        for share, how, behaviour, bills in ways:
            at -= share
            if at < 0:
                return how, behaviour, bills
        return "answers", good, True

    async def _hang(self, _: web.Request, __: Body) -> web.StreamResponse:
        await self.hangs.wait()
        return web.Response()

    def _cut(self, usage: Body) -> Behaviour:
        cut = cut_stream(self.rng.randint(0, 2), usage=usage)

        async def behave(request: web.Request, body: Body) -> web.StreamResponse:
            if body.get("stream"):
                return await cut(request, body)
            response = web.StreamResponse(headers={"Content-Type": "application/json", "Content-Length": "5000"})
            await response.prepare(request)
            await response.write(str(completion(body, usage=usage)).encode()[:100])
            return await drops(request, body)

        return behave

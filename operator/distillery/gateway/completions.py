"""The OpenAI-compatible endpoints, for stage pods: chat, completions, the list of models, and what a job may know of its teacher."""

from __future__ import annotations

import asyncio
import json
import logging
from functools import partial

from aiohttp import web

from distillery.api.usage import TeacherInfo

from .buyer import Buyer
from .errors import Refused
from .flights import Flight, Flights, Relay, Served
from .http import Handler, read, token_of
from .identity import Identities
from .ledger import LedgerError
from .metrics import GatewayMetrics
from .parsing import LARGE, apart
from .permits import Permits
from .question import Question, Route, read_question
from .room import Room, Sizes
from .standing import Standing, Standings
from .teachers.choices import choices_in
from .teachers.stream import event, replay

log = logging.getLogger(__name__)
#: Of a question, beside its body.
_OVERHEAD = 4096
#: A client that takes no 64 KiB in so many seconds is let go.
_WRITE_SECONDS = 30.0
_DONE = b"data: [DONE]\n\n"
#: Refusals that are about whoever pays, so that another job, which waited for the same answer, may yet buy it.
_ABOUT_THE_PAYER = frozenset((403, 404, 429))


class Completions:
    """Routes under /v1 that pods call with their own token."""

    def __init__(
        self,
        identities: Identities,
        standings: Standings,
        buyer: Buyer,
        flights: Flights,
        metrics: GatewayMetrics,
        permits: Permits,
        room: Room,
        sizes: Sizes,
    ) -> None:
        self._room, self._sizes = room, sizes
        self._identities, self._standings, self._buyer, self._permits = identities, standings, buyer, permits
        self._flights, self._metrics = flights, metrics

    def routes(self) -> list[web.RouteDef]:
        """For the application."""
        return [
            web.post("/v1/chat/completions", self._answering("chat/completions")),
            web.post("/v1/completions", self._answering("completions")),
            web.get("/v1/models", self._models),
            web.get("/v1/teacher", self._teacher),
        ]

    def _answering(self, route: Route) -> Handler:
        async def answer(request: web.Request) -> web.StreamResponse:
            try:
                return await self._answer(request, route)
            except Refused as error:
                self._metrics.requests.labels("refused").inc()
                self._metrics.refusals.labels(error.reason).inc()
                raise

        return answer

    async def _answer(self, request: web.Request, route: Route) -> web.StreamResponse:
        pod = await self._identities.stage_pod(token_of(request))
        standing = await self._standings.of(pod.owner)
        await self._permits.check(pod, standing.permit)
        # its bytes, its values and its encoded form exist at the same time, until it is answered
        most = 3 * min(self._sizes.request, request.content_length or self._sizes.request) + _OVERHEAD
        with await self._room.take(pod.namespace, most):
            raw = await read(request)
            read_it = partial(read_question, route, raw, standing.teacher, request.headers.get("X-Distillery-Sample"))
            question = await apart(len(raw), read_it)
            teacher = standing.teacher
            key = await apart(len(raw), partial(question.key, teacher.base_url, teacher.credential, standing.scope))
            return await self._answered(request, standing, question, key)

    async def _answered(self, request: web.Request, standing: Standing, question: Question, key: str) -> web.StreamResponse:
        while True:
            relay = Relay() if question.stream else None
            flight, mine = self._flights.enter(key, standing.ref, relay, lambda relay: self._buyer.answer(standing, question, key, relay))
            try:
                if question.stream:
                    return await self._stream(request, standing, question, key, flight, mine)
                served = await flight.served()
            except Refused as error:
                if mine or flight.payer == standing.ref or error.status not in _ABOUT_THE_PAYER:
                    raise
                continue
            await self._count(standing, served, mine)
            return await _given(request, served, _headers(standing, served, question, key, mine))

    async def _stream(
        self, request: web.Request, standing: Standing, question: Question, key: str, flight: Flight, mine: bool
    ) -> web.StreamResponse:
        """As the teacher streams; where it did not, from the whole answer. The end is sent when the answer is kept."""
        headers = {"X-Distillery-Answer": key, "X-Distillery-Terms": standing.terms, "X-Distillery-Cache": "miss" if mine else "joined"}
        response = web.StreamResponse(headers={**headers, "Content-Type": "text/event-stream", "Cache-Control": "no-cache"})
        if flight.relay is not None:
            async for part in flight.relay.follow(question.usage_chunk):
                await _send(request, response, part)
        try:
            served = await flight.served()
        except Refused as error:
            if not response.prepared:
                raise
            log.warning("a stream broke off: %s", error.message, extra={"reason": error.reason})
            await _send(request, response, event(error.body()))
            await response.write_eof()
            return response
        await self._count(standing, served, mine)
        if response.prepared:
            await _send(request, response, _DONE)
        else:
            response.headers.update(_headers(standing, served, question, key, mine))
            for part in replay(
                await apart(len(served.body), partial(json.loads, served.body)), question.route == "chat/completions", question.usage_chunk
            ):
                await _send(request, response, part)
        await response.write_eof()
        return response

    async def _count(self, standing: Standing, served: Served, mine: bool) -> None:
        """Note what was saved. An answer is given although this cannot be noted."""
        if mine and served.cache == "miss":
            return
        self._metrics.requests.labels("hit" if served.cache == "hit" else "joined").inc()
        try:
            await self._buyer.ledger.mark_hit(standing.ref, served.cost, self._buyer.now())
        except LedgerError as error:
            log.warning("a hit was not counted: %s", error)

    async def _models(self, request: web.Request) -> web.Response:
        teacher = (await self._standing(request)).teacher
        model = {"id": teacher.name, "object": "model", "created": 0, "owned_by": "distillery"}
        return web.json_response({"object": "list", "data": [model]})

    async def _teacher(self, request: web.Request) -> web.Response:
        standing = await self._standing(request)
        info = TeacherInfo(
            teacher=standing.teacher,
            budget=standing.budget.partition("/")[2],
            policy=standing.verdict,
            prices=standing.prices.digest,
        )
        return web.json_response(info.wire())

    async def _standing(self, request: web.Request) -> Standing:
        """For what costs nothing: any stage of the job may know of its teacher."""
        pod = await self._identities.stage_pod(token_of(request))
        return await self._standings.of(pod.owner)


def _headers(standing: Standing, served: Served, question: Question, key: str, mine: bool) -> dict[str, str]:
    terms = standing.terms
    if served.terms != terms:
        # bought when the teacher came under other terms: both count
        terms = ",".join(dict.fromkeys([*served.terms.split(","), *standing.verdict.terms]))
    free = served.cache == "hit" or not mine
    return {
        "X-Distillery-Cache": served.cache if mine or served.cache == "hit" else "joined",
        "X-Distillery-Cost": "0" if free else str(served.cost),
        "X-Distillery-Answer": key,
        "X-Distillery-Choices": f"{choices_in(served.body, question.n)}/{question.n}",
        "X-Distillery-Terms": terms,
    }


async def _given(request: web.Request, served: Served, headers: dict[str, str]) -> web.StreamResponse:
    """The response with an answer; a large one is written here, piece by piece, so that it takes room until the client has it."""
    if len(served.body) <= LARGE:
        return web.Response(body=served.body, content_type="application/json", headers=headers)
    response = web.StreamResponse(headers={**headers, "Content-Type": "application/json"})
    response.content_length = len(served.body)
    for start in range(0, len(served.body), LARGE):
        async with asyncio.timeout(_WRITE_SECONDS):
            await _send(request, response, served.body[start : start + LARGE])
    await response.write_eof()
    return response


async def _send(request: web.Request, response: web.StreamResponse, part: bytes) -> None:
    # raises where the client is gone, which ends the handler; the flight goes on
    if not response.prepared:
        await response.prepare(request)
    await response.write(part)

"""Reservations: may a job go on buying, what has it bought, what will it cost. The operator asks, with PUT as its sign of life."""

from __future__ import annotations

import math
from collections.abc import Callable
from datetime import datetime
from functools import reduce

from aiohttp import web
from pydantic import ValidationError

from distillery.api import reasons
from distillery.api.governance import PolicyVerdict
from distillery.api.money import usd
from distillery.api.problems import problems
from distillery.api.status import CostEstimate, TeacherUsage
from distillery.api.usage import Reservation, ReservationRequest
from distillery.prices import worst_case
from distillery.prices.bound import template_tokens
from distillery.timestamps import stamp

from .errors import Refused, refusal
from .http import only, read, token_of
from .identity import Identities, JobId
from .ledger import JobRef, JobUsage, Ledger, Need, Refusal, ends
from .money import shortage
from .pace import Paces
from .shortages import Shortages
from .standing import Standing, Standings

#: With fewer answers the mean says nothing, and the reservation is that of a pilot.
PILOT = 8
#: Messages of a prompt, where only its bytes are known.
_MESSAGES = 16


class Reservations:
    """/v1/reservations/{namespace}/{job}/{uid}, for the operator's ServiceAccount alone."""

    def __init__(
        self,
        identities: Identities,
        standings: Standings,
        ledger: Ledger,
        paces: Paces,
        shortages: Shortages,
        operator: tuple[str, str],
        now: Callable[[], datetime],
    ) -> None:
        self._identities, self._standings, self._ledger, self._paces = identities, standings, ledger, paces
        self._shortages, self._operator, self._now = shortages, operator, now

    def routes(self) -> list[web.RouteDef]:
        """For the application."""
        path = "/v1/reservations/{namespace}/{job}/{uid}"
        return [web.put(path, self._put), web.delete(path, self._delete)]

    async def _put(self, request: web.Request) -> web.Response:
        job = await self._job(request)
        try:
            wanted = ReservationRequest.model_validate_json(await read(request))
        except ValidationError as error:
            raise Refused(400, reasons.INVALID_REQUEST, "; ".join(problems(error, "reservation"))[:500]) from None
        return web.json_response((await self._reserved(job, wanted)).wire())

    async def _delete(self, request: web.Request) -> web.Response:
        """By the uid alone: the job may be gone, or name another budget by now. Idempotent."""
        job = await self._job(request)
        for ref in await self._accounts(job):
            await self._ledger.give_back(ref, self._now())
        usage = await self._usage(job)
        return web.json_response(Reservation(state="Granted", reason=reasons.RELEASED, usage=usage).wire())

    async def _job(self, request: web.Request) -> JobId:
        only(await self._identities.account(token_of(request)), self._operator, "reserve money")
        return JobId(*(request.match_info[part] for part in ("namespace", "job", "uid")))

    async def _reserved(self, job: JobId, wanted: ReservationRequest) -> Reservation:
        try:
            standing = await self._standings.of_now(job)
        except Refused as error:
            if error.reason == reasons.GONE:
                raise
            return _refused(error, await self._usage(job))
        used = await self._ledger.usage(standing.ref)
        estimate, policy = estimate_of(used, wanted.requests), standing.verdict
        try:
            pace = await self._paces.pace(standing)
            if pace.refused is not None:
                raise pace.refused
            await self._ledger.reserve(standing.ref, standing.accounts, need_of(standing, wanted, used), self._now())
        except Refusal as error:
            self._shortages.note(error)
            short = refusal(reasons.BUDGET_EXHAUSTED, shortage(error), resumes=ends(error.account))
            return _refused(short, await self._usage(job), estimate, policy)
        except Refused as error:
            return _refused(error, await self._usage(job), estimate, policy)
        usage = await self._usage(job)
        return Reservation(state="Granted", reason=reasons.BUDGET_RESERVED, usage=usage, estimate=estimate, policy=policy)

    async def _accounts(self, job: JobId) -> list[JobRef]:
        """The job in every budget that it had; one that was suspended may have got another."""
        return [ref for ref in await self._ledger.jobs(job.uid) if ref.budget.startswith(f"{job.namespace}/")]

    async def _usage(self, job: JobId) -> TeacherUsage:
        """All that the job has asked and paid, on whatever budget."""
        usages = [await self._ledger.usage(ref) for ref in await self._accounts(job)]
        return usage_of(reduce(_added, usages, JobUsage()))


def _added(one: JobUsage, other: JobUsage) -> JobUsage:
    return JobUsage(**{name: getattr(one, name) + getattr(other, name) for name in JobUsage.__dataclass_fields__})


def need_of(standing: Standing, wanted: ReservationRequest, used: JobUsage) -> Need:
    """How much the job still needs: one request at its worst, and the rest by the mean of what it has bought."""
    sampling, teacher = standing.endpoint.sampling, standing.teacher
    given = wanted.longest_prompt_bytes + template_tokens(teacher, _MESSAGES)
    made = min(sampling.max_completion_tokens, teacher.max_completion_tokens)
    smallest = worst_case(standing.prices, given, made, sampling.samples)
    smallest_tokens = sampling.samples * (given + made)
    if used.answers < PILOT:
        return Need(smallest, smallest_tokens)
    left = max(0, wanted.requests - used.answers - used.hits)
    mean, mean_tokens = -(-used.total // used.answers), -(-(used.tokens_in + used.tokens_out) // used.answers)
    return Need(
        smallest,
        smallest_tokens,
        remaining=left * mean,
        estimate=used.total + left * mean,
        remaining_tokens=left * mean_tokens,
        estimate_tokens=used.tokens_in + used.tokens_out + left * mean_tokens,
    )


def estimate_of(used: JobUsage, requests: int) -> CostEstimate | None:
    """What all requests will cost: paid so far and the rest by the mean, with the 95 % interval of both the mean and the rest itself."""
    if used.answers < 2:
        return None
    left = max(0, requests - used.answers - used.hits)
    mean = used.total / used.answers
    variance = max(0.0, (used.squares - used.answers * mean**2) / (used.answers - 1))
    spread = 1.96 * math.sqrt(variance * (left**2 / used.answers + left))
    rest = left * mean
    return CostEstimate(
        requests=requests,
        sampled=used.answers,
        input_tokens=used.tokens_in + round(left * used.tokens_in / used.answers),
        output_tokens=used.tokens_out + round(left * used.tokens_out / used.answers),
        cost=usd(used.total + round(rest)),
        low=usd(used.total + max(0, round(rest - spread))),
        high=usd(used.total + round(rest + spread)),
    )


def usage_of(used: JobUsage) -> TeacherUsage:
    """As the status of a job has it."""
    return TeacherUsage(
        requests=used.requests,
        cache_hits=used.hits,
        input_tokens=used.tokens_in,
        output_tokens=used.tokens_out,
        cost=usd(used.settled + used.overrun),
        reserved_cost=usd(used.reserved + used.held + used.in_doubt),
        in_doubt_cost=usd(used.in_doubt),
        saved_cost=usd(used.saved),
    )


def _refused(error: Refused, usage: TeacherUsage, estimate: CostEstimate | None = None, policy: PolicyVerdict | None = None) -> Reservation:
    return Reservation(
        state="Refused",
        reason=error.reason,
        message=error.message,
        resumes=None if error.resumes is None else stamp(error.resumes),
        usage=usage,
        estimate=estimate,
        policy=policy,
    )

"""Buying one answer: hold its worst case, send it once, book what became of it. Whatever happens, the hold ends in one of four ways."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime
from time import perf_counter
from typing import TypeVar

from distillery.api import reasons
from distillery.prices import BadUsage, cost, worst_case

from .answers import Answers
from .errors import Refused, refusal
from .flights import Relay, Served
from .ledger import Answer, Hold, Ledger, LedgerError, ReadOnly, Refusal, Why, ends, hold_id
from .metrics import GatewayMetrics
from .money import shortage
from .question import Question
from .shortages import Shortages
from .standing import Standing
from .teachers.outcome import Billed, Doubtful, NotBilled, Outcome
from .teachers.teacher import Teacher, Teachers
from .watch import Watch

log = logging.getLogger(__name__)
T = TypeVar("T")


@dataclass(frozen=True)
class Buyer:
    """`now` is the time of day, which decides the windows that a request is booked in."""

    ledger: Ledger
    answers: Answers
    teachers: Teachers
    watch: Watch
    shortages: Shortages
    now: Callable[[], datetime]
    metrics: GatewayMetrics

    async def answer(self, standing: Standing, question: Question, key: str, relay: Relay | None) -> Served:
        """The kept answer of a question, or a bought one. Refused."""
        try:
            kept = await self.answers.find(key)
            if kept is not None:
                return Served(kept.body, kept.cost, kept.terms, "hit")
            return await self._buy(standing, question, key, relay)
        except Refusal as error:
            self.shortages.note(error)
            text = f'TeacherBudget "{standing.budget}" is exhausted, {shortage(error)}'
            raise refusal(reasons.BUDGET_EXHAUSTED, text, resumes=ends(error.account)) from None
        except LedgerError as error:
            raise no_ledger(error) from error

    async def _buy(self, standing: Standing, question: Question, key: str, relay: Relay | None) -> Served:
        pace = await self.watch.pace(standing)
        if pace.refused is not None:
            raise pace.refused
        teacher = self.teachers.of(standing.budget, standing.teacher)
        secret = standing.credential.key() if standing.credential is not None else None
        teacher.breaker.check()
        # money is held only by a request whose turn it is
        await teacher.limits.enter(question.tokens, pace.weight)
        try:
            teacher.breaker.enter()
            hold = await self._held(standing, question, key, teacher)
            outcome = await self._asked(teacher, question, secret, hold, relay)
        finally:
            teacher.limits.leave(pace.weight)
        return await self._booked(outcome, standing, key, hold)

    async def _held(self, standing: Standing, question: Question, key: str, teacher: Teacher) -> Hold:
        started, now = perf_counter(), self.now()
        hold = Hold(
            id=hold_id(now),
            budget=standing.budget,
            job_uid=standing.job.uid,
            teacher=standing.teacher.name,
            amount=worst_case(standing.prices, question.input_tokens, question.output_tokens, question.n),
            tokens=question.tokens,
            accounts=standing.accounts,
            request_key=key,
            at=now,
            terms=standing.terms,
            prices=standing.prices.digest,
        )
        try:
            await self.ledger.hold(hold)
        except BaseException:
            teacher.breaker.leave()
            raise
        self.metrics.hold_seconds.observe(perf_counter() - started)
        return hold

    async def _asked(self, teacher: Teacher, question: Question, secret: str | None, hold: Hold, relay: Relay | None) -> Outcome:
        started = perf_counter()
        try:
            return await teacher.ask(question, hold.teacher, secret, hold.id, relay)
        except Exception:
            # a fault of ours: the request may be on its way (where the process ends, the next one finds the hold and says the same)
            teacher.breaker.leave()
            await self._book(self.ledger.doubt(hold.id, self.now(), Why.GATEWAY_FAULT))
            raise
        finally:
            self.metrics.teacher_seconds.observe(perf_counter() - started)

    async def _booked(self, outcome: Outcome, standing: Standing, key: str, hold: Hold) -> Served:
        if isinstance(outcome, Billed):
            try:
                return await self._settled(outcome, standing, key, hold)
            except BadUsage as unreadable:
                outcome = Doubtful(f"the teacher's answer has an unreadable usage: {unreadable}", Why.UNREADABLE_USAGE)
        if isinstance(outcome, NotBilled):
            self.metrics.requests.labels("released").inc()
            told = self.ledger.release(hold.id, self.now(), outcome.kind, status=outcome.status, request_id=outcome.request_id)
            await self._book(told)
            raise outcome.error
        self.metrics.requests.labels("in_doubt").inc()
        log.warning("in doubt: %s", outcome.why, extra={"budget": hold.budget, "hold": hold.id})
        told = self.ledger.doubt(hold.id, self.now(), outcome.kind, status=outcome.status, request_id=outcome.request_id)
        await self._book(told)
        raise outcome.error()

    async def _settled(self, outcome: Billed, standing: Standing, key: str, hold: Hold) -> Served:
        billed = cost(standing.prices, outcome.usage, outcome.service_tier)
        answer = None if outcome.body is None else Answer(key, outcome.body, outcome.finish)
        self.metrics.requests.labels("settled").inc()
        booking = self.ledger.settle(
            hold.id, billed, outcome.tokens_in, outcome.tokens_out, self.now(), answer, request_id=outcome.request_id
        )
        settled = await self._book(booking)
        if settled is not None and (settled.overrun or settled.overrun_tokens):
            self.metrics.requests.labels("overrun").inc()
            log.error("billed beyond the hold", extra={"budget": hold.budget, "hold": hold.id, "overrun": settled.overrun})
        if outcome.body is None:
            text = f'teacher "{standing.teacher.name}" billed an answer that has not the choices that were asked for'
            raise Refused(502, reasons.TEACHER_FAILED, text)
        return Served(outcome.body, billed, standing.terms, "miss")

    async def _book(self, booking: Awaitable[T]) -> T | None:
        """Book an outcome. None where the ledger could not yet: it goes on trying, and meanwhile the hold stays at its worst case."""
        try:
            return await booking
        except LedgerError as error:
            log.error("an outcome is not booked: %s", error)
            return None


def no_ledger(error: LedgerError) -> Refused:
    """What a caller is told where the ledger grants nothing to anybody."""
    if isinstance(error, ReadOnly):
        return refusal(reasons.LEDGER_READ_ONLY, str(error), retry_after=60.0)
    return refusal(reasons.GATEWAY_UNAVAILABLE, f"the ledger does not answer, so nothing is granted: {error}", retry_after=5.0)

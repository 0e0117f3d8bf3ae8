"""Buying one answer: hold its worst case, send it once, book what became of it. Whatever happens, the hold ends in one of four ways."""

from __future__ import annotations

import logging
import traceback
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime
from time import perf_counter
from typing import TypeVar

from distillery.api import reasons
from distillery.api.money import usd
from distillery.prices import cost, worst_case

from . import foreign
from .answers import Answers
from .elsewhere import ended
from .errors import Refused, invalid, no_ledger, refusal
from .flights import Relay, Served
from .ledger import LARGEST, Answer, AskedElsewhere, Hold, Ledger, LedgerError, Refusal, Settled, ends, hold_id
from .metrics import GatewayMetrics
from .money import shortage
from .pace import Pace, Paces
from .parsing import LARGE
from .question import Question
from .room import Portion, Room
from .shortages import Shortages
from .standing import Standing, Standings
from .teachers.breaker import NamespaceBreaker
from .teachers.letter import Letter
from .teachers.outcome import Billed, NotBilled, Outcome, fault
from .teachers.teacher import Teacher, Teachers

log = logging.getLogger(__name__)
T = TypeVar("T")


@dataclass(frozen=True)
class Buyer:
    """`now` is the time of day, which decides the windows that a request is booked in."""

    ledger: Ledger
    answers: Answers
    teachers: Teachers
    standings: Standings
    paces: Paces
    shortages: Shortages
    room: Room
    """For answers."""
    now: Callable[[], datetime]
    metrics: GatewayMetrics

    async def answer(self, standing: Standing, question: Question, key: str, relay: Relay | None) -> Served:
        """The kept answer of a question, or a bought one. Refused."""
        try:
            while True:
                kept = await self.answers.find(key)
                if kept is not None:
                    portion = self.room.grab(standing.job.namespace, len(kept.body)) if len(kept.body) > LARGE else None
                    return Served(kept.body, kept.cost, kept.terms, "hit").keeping(portion)
                try:
                    if (other := await self.ledger.asked_elsewhere(key)) is None:
                        return await self._buy(standing, question, key, relay)
                except AskedElsewhere as elsewhere:
                    other = elsewhere.hold
                await ended(self.ledger, other)
        except Refusal as error:
            self.shortages.note(error)
            text = f'TeacherBudget "{standing.budget}" is exhausted, {shortage(error)}'
            raise refusal(reasons.BUDGET_EXHAUSTED, text, resumes=ends(error.account)) from None
        except LedgerError as error:
            # not left to the endpoint: everybody who waits for this answer is refused, in a stream too
            raise no_ledger(error) from error

    async def _buy(self, standing: Standing, question: Question, key: str, relay: Relay | None) -> Served:
        # whoever has to wait for money, or for a person, does not wait for a turn first
        weight = (await self._pace(standing)).weight
        teacher = self.teachers.of(standing.budget, standing.teacher)
        teacher.breakers.of(standing.job.namespace, None).check()
        # money is held only by a request whose turn it is, and a turn ends when its outcome is booked: the next is judged by it
        await teacher.limits.enter(standing.payer, question.tokens, weight)
        portion = self.room.nothing(standing.job.namespace)
        try:
            standing = await self._still(standing)
            secret = standing.credential.key() if standing.credential is not None else None
            breaker = teacher.breakers.of(standing.job.namespace, secret)
            # all that can fail without a teacher fails before money is held
            letter = Letter(question, relay is not None)
            breaker.enter()
            hold = await self._held(standing, question, key, breaker)
            outcome = await self._asked(teacher, letter, breaker, hold, relay, portion)
            return (await self._booked(outcome, standing, question, key, hold, teacher)).keeping(portion)
        except BaseException:
            portion.release()
            raise
        finally:
            teacher.limits.leave(standing.payer, weight)

    async def _pace(self, standing: Standing) -> Pace:
        """Refused where the job may not go on."""
        pace = await self.paces.pace(standing)
        if pace.refused is not None:
            raise pace.refused
        return pace

    async def _still(self, standing: Standing) -> Standing:
        """As it is judged when its turn has come, perhaps half a minute after it asked. Refused where the job may not ask any more."""
        latest = await self.standings.of(standing.job)
        if latest is not standing and not latest.asks_as(standing):
            text = f'TeacherBudget "{standing.budget}" or the job was changed while the request waited for its turn; ask again'
            raise refusal(reasons.GATEWAY_UNAVAILABLE, text, retry_after=1.0)
        latest.permit.check()
        if latest.permit.run != standing.permit.run:
            text = f"the run that DistillationJob {latest.job.name} has announced by now is {latest.permit.run}; this one asks no more"
            raise Refused(403, reasons.ANOTHER_RUN, text)
        await self._pace(latest)
        return latest

    async def _held(self, standing: Standing, question: Question, key: str, breaker: NamespaceBreaker) -> Hold:
        started, now = perf_counter(), self.now()
        try:
            hold = Hold(
                id=hold_id(now),
                budget=standing.budget,
                job_uid=standing.job.uid,
                teacher=standing.teacher.name,
                amount=_countable(standing, question),
                tokens=question.tokens,
                accounts=standing.accounts,
                request_key=key,
                at=now,
                terms=standing.terms,
                prices=standing.prices.digest,
            )
            await self.ledger.hold(hold)
        except BaseException:
            breaker.leave()
            raise
        self.metrics.hold_seconds.observe(perf_counter() - started)
        return hold

    async def _asked(
        self, teacher: Teacher, letter: Letter, breaker: NamespaceBreaker, hold: Hold, relay: Relay | None, portion: Portion
    ) -> Outcome:
        started = perf_counter()
        try:
            return await teacher.ask(letter, hold.teacher, breaker, hold.id, relay, portion)
        except Exception as error:  # noqa: BLE001
            # a fault of ours: the request may be on its way (where the process ends, the next one finds the hold and says the same)
            breaker.leave()
            told = foreign.secret(breaker.key).hidden(traceback.format_exc())
            log.error("a fault while a teacher was asked", extra={"hold": hold.id, "error": told})
            return fault(hold.teacher, type(error).__name__, letter.sent)
        finally:
            self.metrics.teacher_seconds.observe(perf_counter() - started)

    async def _booked(self, outcome: Outcome, standing: Standing, question: Question, key: str, hold: Hold, teacher: Teacher) -> Served:
        if isinstance(outcome, Billed):
            return await self._settled(outcome, standing, question, key, hold, teacher)
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

    async def _settled(self, outcome: Billed, standing: Standing, question: Question, key: str, hold: Hold, teacher: Teacher) -> Served:
        billed = min(LARGEST, cost(standing.prices, outcome.usage, outcome.service_tier))
        answer = None if outcome.body is None else Answer(key, outcome.body, outcome.finish)
        self.metrics.requests.labels("settled").inc()
        booking = self.ledger.settle(
            hold.id, billed, outcome.tokens_in, outcome.tokens_out, self.now(), answer, request_id=outcome.request_id
        )
        settled = await self._book(booking, budget=hold.budget, billed=usd(billed))
        if settled is not None:
            self._learn(settled, outcome, standing, question, teacher, hold)
        if outcome.body is None:
            self.metrics.requests.labels("unanswered").inc()
            text = f'teacher "{standing.teacher.name}" billed an answer that cannot be used: {outcome.lacking}'
            raise Refused(502, reasons.TEACHER_FAILED, text)
        return Served(outcome.body, billed, standing.terms, "miss")

    def _learn(self, settled: Settled, outcome: Billed, standing: Standing, question: Question, teacher: Teacher, hold: Hold) -> None:
        """An answer proves the bounds of its teacher, or that one of them is wrong: then no request of the budget goes before a look."""
        held = self.paces.bounds.hold(standing, question, outcome.tokens_in)
        if held and not settled.overrun and not settled.overrun_tokens:
            teacher.limits.within_bounds(standing.payer)
            return
        teacher.limits.beyond_bounds(standing.payer)
        self.paces.forget(standing.budget)
        self.metrics.requests.labels("overrun").inc()
        log.error("billed beyond a bound", extra={"budget": hold.budget, "hold": hold.id, "overrun": settled.overrun})

    async def _book(self, booking: Awaitable[T], **known: str) -> T | None:
        """Book an outcome. None where the ledger could not yet: it goes on trying, and meanwhile the hold stays at its worst case.

        None, too, where a person has ended the doubt about it before: what is `known` now, a person has to book.
        """
        try:
            return await booking
        except LedgerError as error:
            log.error("an outcome is not booked: %s", error, extra=known)
            return None


def _countable(standing: Standing, question: Question) -> int:
    """The worst case of a request. Refused where no ledger could count it."""
    amount = worst_case(standing.prices, question.input_tokens, question.output_tokens, question.n)
    if amount <= LARGEST and question.tokens <= LARGEST:
        return amount
    field = f'spec.teachers["{standing.teacher.name}"].prices of TeacherBudget "{standing.budget}"'
    text = f"a request of up to {question.tokens} tokens could cost {usd(amount)} USD, and one may cost {usd(LARGEST)} USD at most"
    raise invalid("max_completion_tokens", f"max_completion_tokens: {text}; ask for less, or correct {field}")

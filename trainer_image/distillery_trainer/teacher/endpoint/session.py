"""One pod's questions: those without an answer are asked, and what comes is kept in the store every few seconds."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter, defaultdict
from collections.abc import Awaitable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

from distillery.api import reasons
from distillery.api.base import number
from distillery.api.result import TEMPORARY
from distillery.api.teacher import TeacherEndpoint
from distillery.api.usage import TeacherInfo
from distillery_trainer.data.end_words import KNOWN
from distillery_trainer.errors import StageError, Stopped
from distillery_trainer.runner.context import StageContext

from .answers import CUT, UNANSWERED, Answered, parsed
from .asking import Asking, Patience, patiently
from .asks import Ask
from .distribution import INCOMPLETE, Reader
from .gateway import Gateway, Reply
from .kept import Fresh, Kept
from .pace import MOST, Pace
from .samples import SoFar, as_greedy_as_it_gets, with_all_samples

log = logging.getLogger(__name__)
#: Answers in a piece, and seconds between two pieces: what a killed pod asks again, at no cost, since the gateway knows the answers.
PIECE_ANSWERS, PIECE_SECONDS = 50, 10.0
_REMEDIES = {CUT: "raise teacher.endpoint.sampling.maxCompletionTokens"}


@dataclass
class Failures:
    """Rows of the training or held-out set that the teacher has failed, by reason."""

    reasons: Counter[tuple[str, str]] = field(default_factory=Counter)

    def add(self, ask: Ask, answered: Answered) -> None:
        """Count the choices that are of no use. A held-out answer that was cut is an answer: the student's is cut there too."""
        for choice in answered.choices:
            if choice.problem and not (ask.held_out and choice.problem == CUT):
                self.reasons[choice.problem, choice.detail[:160]] += 1

    def lost(self, ask: Ask, why: str) -> None:
        """No answer at all."""
        self.reasons[UNANSWERED, why[:160]] += ask.samples

    @staticmethod
    def of(asks: Iterable[Ask], answers: Mapping[int, Answered], lost: Mapping[int, str]) -> Failures:
        """All of them, once every question has been asked; `lost` says why those without an answer have none."""
        found = Failures()
        for ask in asks:
            if ask.at in answers:
                found.add(ask, answers[ask.at])
            else:
                found.lost(ask, lost.get(ask.at, "no answer"))
        return found

    def error(self, endpoint: TeacherEndpoint, rows: int) -> StageError | None:
        """TeacherFailed where more than maxFailureRatio of all `rows` failed."""
        failed = self.reasons.total()
        if failed <= number(endpoint.max_failure_ratio) * rows:
            return None
        common = "; ".join(
            f"{count} {problem} ({', '.join(part for part in (detail, _REMEDIES.get(problem)) if part)})"
            for (problem, detail), count in self.reasons.most_common(3)
        )
        text = f"{failed} of {rows} rows failed, more than maxFailureRatio {endpoint.max_failure_ratio} allows: {common}"
        return StageError(reasons.TEACHER_FAILED, f"spec.teacher.endpoint: {text}. What was answered is not bought again")


class Session:
    """Asks the questions of one shard; `total` is the number of rows of all shards, which maxFailureRatio is a part of."""

    def __init__(
        self,
        context: StageContext,
        asks: Sequence[Ask],
        kept: Kept,
        total: int,
        reader: Reader | None = None,
        end_words: Iterable[str] = KNOWN,
    ) -> None:
        endpoint = context.job.spec.teacher.endpoint
        if endpoint is None:
            raise ValueError("a session asks teacher.endpoint")
        self._context, self._asks, self._kept, self._total, self._endpoint = context, asks, kept, total, endpoint
        self.answers: dict[int, Answered] = {}
        #: Rows of which some answers came and others did not: another run asks for those, so these are not kept.
        self.incomplete: dict[int, Answered] = {}
        self.failed_rows: dict[int, str] = {}
        self.failures = Failures()
        self._fresh: list[Fresh] = []
        self._broken: StageError | None = None
        self._reader, self._end_words = reader, tuple(end_words)
        self._so_far: defaultdict[int, SoFar] = defaultdict(SoFar)

    def run(self, patience: Patience | None = None) -> TeacherInfo:
        """Until each question has an answer or has failed, and all answers are in the store. Raises what ended it before."""
        by_number = {ask.at: ask for ask in self._asks}
        self.answers = {at: answer for at, answer in self._kept.restore(self._scratch).items() if at in by_number}
        for at, answer in self.answers.items():
            self.failures.add(by_number[at], answer)
        return asyncio.run(self._run([ask for ask in self._asks if ask.at not in self.answers], patience or Patience()))

    @property
    def _scratch(self) -> Path:
        return self._context.work / "answers"

    async def _run(self, missing: Sequence[Ask], patience: Patience) -> TeacherInfo:
        self._report()
        async with Gateway.of(self._context.environment) as gateway:
            info = await patiently(gateway.teacher, self, patience)
            spec, endpoint = self._context.job.spec, self._endpoint

            def send(ask: Ask) -> Awaitable[Reply]:
                path, body = ask.request(spec, endpoint)
                to_path = partial(gateway.ask, path)
                if ask.held_out:
                    return as_greedy_as_it_gets(to_path, body)
                return with_all_samples(to_path, body, ask.samples, self._so_far[ask.at])

            pace = Pace(most=min(MOST, info.teacher.rate_limits.max_concurrency))
            asking = Asking(send, self, pace, patience, endpoint.retries_in_doubt)
            keeper = asyncio.ensure_future(self._keep_as_they_come())
            try:
                await asking.run(missing)
            finally:
                keeper.cancel()
                await asyncio.gather(keeper, return_exceptions=True)
                await self._flush()
        return info

    def answered(self, ask: Ask, reply: Reply) -> None:
        """Take an answer."""
        answer, distributions = parsed(ask, reply, self._reader, self._end_words)
        self._so_far.pop(ask.at, None)
        self.answers[ask.at] = answer
        self.failures.add(ask, answer)
        self._fresh.append((answer, distributions))
        self._report()

    def failed(self, ask: Ask, why: str) -> None:
        """Take a failure. It is not kept: another run asks again. What came of the row's answers before is learned from."""
        if (found := self._so_far.pop(ask.at, SoFar()).reply) is not None:
            answer, _ = parsed(ask, replace(found, lacking=why), None, self._end_words)
            choices = tuple(choice if choice.problem else replace(choice, without=INCOMPLETE) for choice in answer.choices)
            self.incomplete[ask.at] = replace(answer, choices=choices) if self._reader else answer
            self.failures.add(ask, answer)
        else:
            self.failed_rows[ask.at] = why
            self.failures.lost(ask, why)
        self._report()

    def waiting(self, why: str) -> None:
        """Say why nothing goes."""
        self._report(f"waiting: {why}")

    def ended(self) -> StageError | Stopped | None:
        """SIGTERM, a store that refuses the answers, or more failures than are allowed."""
        if self._context.stopping.is_set():
            done = len(self.answers)
            return Stopped(f"SIGTERM after {done} of {len(self._asks)} answers; they are kept, and the others are asked by the next run")
        return self._broken or self.failures.error(self._endpoint, self._total)

    def _report(self, message: str | None = None) -> None:
        done = len(self.answers) + len(self.incomplete) + len(self.failed_rows)
        self._context.progress.report(done, len(self._asks), "rows", message=message)

    async def _keep_as_they_come(self) -> None:
        last = time.monotonic()
        while True:
            await asyncio.sleep(PIECE_SECONDS / 20)
            if len(self._fresh) >= PIECE_ANSWERS or (self._fresh and time.monotonic() - last >= PIECE_SECONDS):
                last = time.monotonic()
                try:
                    await self._flush()
                except StageError as error:
                    if error.code != TEMPORARY:
                        self._broken = error
                        return
                    log.warning("the answers are kept in memory for now: %s", error.message)

    async def _flush(self) -> None:
        """Answers leave the list when they are safe."""
        while self._fresh:
            answers = list(self._fresh)
            await asyncio.to_thread(self._kept.keep, answers, self._scratch)
            del self._fresh[: len(answers)]


def rows_of(asks: Iterable[Ask]) -> int:
    """Answers that these requests are for."""
    return sum(ask.samples for ask in asks)

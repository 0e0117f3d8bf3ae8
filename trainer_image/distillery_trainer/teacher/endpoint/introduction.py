"""What preflight finds out about a teacher behind an API: whether it may be asked, how often it will be, and how long the prompts are."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from distillery.api import reasons
from distillery.api.digest import digest
from distillery.api.teacher import EndpointSampling
from distillery.api.usage import TeacherInfo
from distillery_trainer.data.templates import Renderer
from distillery_trainer.errors import StageError, Stopped
from distillery_trainer.runner.context import StageContext

from .asking import Patience, patiently
from .asks import Ask, planned
from .gateway import Gateway, Reply
from .selection import Asked, select

#: Seconds without a word from the gateway; preflight holds no state, so it may as well be run again.
_SILENCE_SECONDS = 600.0


@dataclass(frozen=True)
class Endpoint:
    """The rows, the questions, and who answers them."""

    info: TeacherInfo
    selection: Asked
    asks: Sequence[Ask]
    sampling: EndpointSampling

    @property
    def digest(self) -> str:
        """sha256 of what makes answers different: whom the budget calls by which name does not."""
        return digest({"baseURL": self.info.teacher.base_url, "model": self.info.teacher.model})

    @property
    def signal_bytes(self) -> int:
        """Of the log-probabilities at the very least: answers that are not written yet count one token."""
        sampling = self.sampling
        kept = sampling.top_logprobs if self.selection.renderer else 0
        rows = sum(ask.samples for ask in self.asks if not ask.held_out)
        return rows * (8 * kept + 4) if kept else 0

    @property
    def metrics(self) -> dict[str, float]:
        """What the operator reserves money by."""
        return {"requests": float(len(self.asks)), "longestPromptBytes": float(max(map(prompt_bytes, self.asks), default=0))}


def endpoint_of(context: StageContext) -> Endpoint:
    """StageError where the teacher may not be asked (terms, budget, price), or does not stand in the budget."""
    selection, endpoint = select(context), context.job.spec.teacher.endpoint
    if endpoint is None:
        raise ValueError("teacher.endpoint is not set")
    _only_known_roles(selection)
    info = teacher_info(context)
    return Endpoint(info, selection, planned(selection.train, selection.held, endpoint), endpoint.sampling)


def teacher_info(context: StageContext) -> TeacherInfo:
    """Who the job's teacher is, and what its terms say of the job's declared use now. StageError where it may not be asked (any more)."""
    return asyncio.run(_info(context))


def _only_known_roles(selection: Asked) -> None:
    """Tools are no part of what the gateway passes on."""
    for example in (*selection.train, *selection.held):
        prompt = example.row.prompt
        if not isinstance(prompt, str) and any(message["role"] == "tool" for message in prompt):
            text = "holds a message of role 'tool', which an endpoint is not asked with: remove the row, or make it the user's message"
            raise StageError(reasons.ROWS_INVALID, f"data: {example.row.where}: {text}")


def prompt_bytes(ask: Ask) -> int:
    """UTF-8 bytes of a prompt with the roles around it: an upper bound of its tokens for tokenizers that go down to bytes."""
    prompt = ask.row.prompt
    return len(prompt.encode() if isinstance(prompt, str) else json.dumps(list(prompt), ensure_ascii=False).encode())


def too_long(rows: Iterable[Ask], renderer: Renderer, limit: int) -> int:
    """Prompts that leave no room for a completion in the student's tokens. They would be paid for and then dropped."""
    return sum(len(renderer.prompt_ids(ask.row.prompt)) >= limit for ask in rows)


async def _info(context: StageContext) -> TeacherInfo:
    async with Gateway.of(context.environment) as gateway:
        return await patiently(gateway.teacher, _Waiter(context), Patience(silence=_SILENCE_SECONDS))


class _Waiter:
    """Tells that preflight waits for the gateway. SIGTERM interrupts it where it is."""

    def __init__(self, context: StageContext) -> None:
        self._context = context

    def answered(self, ask: Ask, reply: Reply) -> None:
        """Nothing is asked here."""

    def failed(self, ask: Ask, why: str) -> None:
        """Nothing is asked here."""

    def waiting(self, why: str) -> None:
        """Say why."""
        self._context.progress.report(0, 1, "checks", message=f"waiting: {why}")

    def ended(self) -> StageError | Stopped | None:
        """Nothing ends it but time."""
        return None

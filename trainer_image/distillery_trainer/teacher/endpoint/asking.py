"""Asks many questions at once, as fast as they are answered, and knows when to wait, when to ask again and when to stop."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter, deque
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from typing import Protocol, TypeVar

from distillery.api import reasons
from distillery.api.result import TEMPORARY
from distillery_trainer.errors import StageError, Stopped

from .asks import Ask
from .gateway import Closed, InDoubt, Later, Reply, Unanswered
from .pace import Pace

log = logging.getLogger(__name__)
_TICK_SECONDS = 0.2
_Task = asyncio.Task[Reply]
Found = TypeVar("Found")


@dataclass(frozen=True)
class Patience:
    """Seconds: without any answer until the stage gives up, and for requests under way once it has to stop."""

    silence: float = 1800.0
    grace: float = 30.0


class Listener(Protocol):
    """Hears what becomes of each question, on the event loop: it must not block."""

    def answered(self, ask: Ask, reply: Reply) -> None:
        """A reply came."""

    def failed(self, ask: Ask, why: str) -> None:
        """This one gets no answer."""

    def waiting(self, why: str) -> None:
        """Nothing goes at the moment."""

    def ended(self) -> StageError | Stopped | None:
        """Looked at several times a second: what ends the run before all is asked."""


class Asking:
    """One run over a list of questions; `send` makes the request of one.

    One whose outcome is unknown is made again up to `retries` times: each attempt is booked at its worst case.
    """

    def __init__(
        self,
        send: Callable[[Ask], Awaitable[Reply]],
        listener: Listener,
        pace: Pace | None = None,
        patience: Patience | None = None,
        retries: int = 1,
    ) -> None:
        self._send, self._listener, self._retries = send, listener, retries
        self._pace, self._patience = pace or Pace(), patience or Patience()
        self._waiting: deque[Ask] = deque()
        self._running: dict[_Task, tuple[Ask, float]] = {}
        self._done: asyncio.Queue[_Task] = asyncio.Queue()
        self._doubts: Counter[tuple[int, int]] = Counter()
        self._end: StageError | Stopped | None = None
        self._short = False
        self._why = ""

    async def run(self, asks: Iterable[Ask]) -> None:
        """Until each question is answered or has failed. Raises what ended it before, after the requests under way have had their grace."""
        self._waiting.extend(asks)
        deadline: float | None = None
        try:
            while self._running or (self._waiting and self._end is None):
                now = time.monotonic()
                self._end = self._end or self._listener.ended() or _silence(self._pace, now, self._patience, self._why)
                if self._end is None:
                    self._start(now)
                else:
                    deadline = deadline if deadline is not None else now + self._patience.grace
                    if now >= deadline:
                        break
                await self._hear(now)
        finally:
            for task in self._running:
                task.cancel()
            await asyncio.gather(*self._running, return_exceptions=True)
        if self._end is not None:
            raise self._end

    def _start(self, now: float) -> None:
        if now < self._pace.not_before:
            return
        while self._waiting and len(self._running) < (1 if self._short else self._pace.width):
            ask = self._waiting.popleft()
            task = asyncio.ensure_future(self._reply(ask))
            task.add_done_callback(self._done.put_nowait)
            self._running[task] = (ask, now)

    async def _reply(self, ask: Ask) -> Reply:
        return await self._send(ask)

    async def _hear(self, now: float) -> None:
        """Wait for the next outcome, at most until the next look at the clock; then take all that are there."""
        held_back = self._pace.not_before - now
        pause = min(_TICK_SECONDS, held_back) if held_back > 0 else _TICK_SECONDS
        try:
            task = await asyncio.wait_for(self._done.get(), pause)
        except TimeoutError:
            return
        self._take(task)
        while not self._done.empty():
            self._take(self._done.get_nowait())

    def _take(self, task: _Task) -> None:
        ask, sent = self._running.pop(task)
        now = time.monotonic()
        try:
            reply = task.result()
        except Later as later:
            self._pace.refused(sent, now, later.seconds)
            self._wait(later.message)
            self._waiting.appendleft(ask)
        except InDoubt as doubt:
            self._pace.refused(sent, now, None)
            self._doubts[ask.at, doubt.sample] += 1
            if self._doubts[ask.at, doubt.sample] <= self._retries:
                self._waiting.append(ask)
            else:
                self._listener.failed(ask, doubt.message)
        except Unanswered as refusal:
            self._pace.answered(sent)
            self._listener.failed(ask, refusal.message)
        except Closed as closed:
            self._waiting.appendleft(ask)
            if closed.error.reason != reasons.BUDGET_EXHAUSTED or (self._short and not self._running):
                self._end = self._end or closed.error
            # each request under way holds its worst case and will give most of it back: the budget is used up when one alone is refused
            self._short = True
        else:
            self._short = self._short and bool(self._running)
            self._pace.answered(sent)
            self._listener.answered(ask, reply)

    def _wait(self, why: str) -> None:
        if why != self._why:
            log.warning("waiting: %s", why)
        self._why = why
        self._listener.waiting(why)


async def patiently(call: Callable[[], Awaitable[Found]], listener: Listener, patience: Patience) -> Found:
    """The outcome of a call that costs nothing, repeated while the gateway is not there."""
    pace, why = Pace(), ""
    while True:
        sent = time.monotonic()
        try:
            return await call()
        except Closed as closed:
            raise closed.error from closed
        except Later as later:
            pace.refused(sent, time.monotonic(), later.seconds)
            if later.message != why:
                log.warning("waiting: %s", later.message)
            why = later.message
            listener.waiting(why)
        while (now := time.monotonic()) < pace.not_before:
            if end := listener.ended() or _silence(pace, now, patience, why):
                raise end
            await asyncio.sleep(min(_TICK_SECONDS, pace.not_before - now))
        if end := listener.ended() or _silence(pace, now, patience, why):
            raise end


def _silence(pace: Pace, now: float, patience: Patience, why: str) -> StageError | None:
    since = pace.failing_since
    if since is None or now - since < patience.silence:
        return None
    text = f"no answer for {int(now - since) // 60} minutes, last: {why}"
    return StageError(reasons.GATEWAY_UNAVAILABLE, f"spec.teacher.endpoint: {text}; the answers so far are kept", TEMPORARY)

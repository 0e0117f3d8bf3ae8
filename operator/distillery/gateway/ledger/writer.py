"""The one thread that writes: whatever is queued becomes one transaction, so that many callers share one fsync."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from .committing import Committer, Outage
from .contract import Fenced, LedgerError, Unavailable
from .operation import Operation

log = logging.getLogger("distillery")

#: Operations in one transaction: bounds how long its locks are held.
LARGEST_BATCH = 512
#: Seconds before each further try of a transaction that the database did not take.
RETRIES = (0.05, 0.2, 1.0, 2.0)
Told = tuple["asyncio.Future[Any]", object]


@dataclass(slots=True)
class Pending:
    """An operation and who waits for it."""

    operation: Operation
    future: asyncio.Future[Any] | None


class Writer:
    """Takes operations from event loops, commits them in order, and tells the callers after the commit."""

    def __init__(self, committer: Committer) -> None:
        self._committer = committer
        self._queue: deque[Pending] = deque()
        self._wake = threading.Condition()
        self._closing = threading.Event()
        self._afterwards: list[Operation] = []
        self.fenced: Fenced | None = None
        self._thread = threading.Thread(target=self._run, name="ledger-writer", daemon=True)
        self._thread.start()

    def submit(self, operation: Operation) -> asyncio.Future[Any]:
        """The operation's result, when it is on disk."""
        future = asyncio.get_running_loop().create_future()
        with self._wake:
            if self._closing.is_set():
                raise Unavailable("the ledger is closing: nothing was booked")
            self._queue.append(Pending(operation, future))
            self._wake.notify()
        return future

    def follow(self, operation: Operation) -> None:
        """Do it after all that was submitted before; nobody waits for it. If the ledger is closing, recovery sees to it."""
        with self._wake:
            self._queue.append(Pending(operation, None))
            self._wake.notify()

    def close(self) -> None:
        """Commit what is queued and end the thread. Blocks."""
        with self._wake:
            self._closing.set()
            self._wake.notify()
        self._thread.join()

    def _run(self) -> None:
        while batch := self._take():
            outcomes = self._outcomes([pending.operation for pending in batch])
            waiting: dict[asyncio.AbstractEventLoop, list[Told]] = {}
            for pending, outcome in zip(batch, outcomes, strict=True):
                if pending.future is not None:
                    waiting.setdefault(pending.future.get_loop(), []).append((pending.future, outcome))
            for loop, told in waiting.items():
                if not loop.is_closed():
                    loop.call_soon_threadsafe(_tell, told)

    def _take(self) -> list[Pending]:
        with self._wake:
            while not self._queue and not self._closing.is_set():
                self._wake.wait()
            return [self._queue.popleft() for _ in range(min(len(self._queue), LARGEST_BATCH))]

    def _outcomes(self, operations: Sequence[Operation]) -> Sequence[object]:
        """Results or errors. What an outage left undone comes first, before anything new is granted."""
        if self.fenced is not None:
            return [self.fenced] * len(operations)
        late = self._afterwards
        try:
            outcomes = self._tried([*late, *operations])
        except Fenced as error:
            self.fenced = error
            log.error("ledger fenced", extra={"reason": str(error)})
            return [error] * len(operations)
        except Outage as error:
            self._afterwards = late + [then for operation in operations if (then := operation.afterwards()) is not None]
            log.error("ledger unavailable", extra={"reason": str(error), "operations": len(operations)})
            return [Unavailable(f"the ledger's database does not answer: {error}")] * len(operations)
        except Exception as error:
            log.exception("ledger operation failed", extra={"operations": len(operations) + len(late)})
            return self._alone(operations, error)
        self._afterwards = []
        return outcomes[len(late) :]

    def _alone(self, operations: Sequence[Operation], error: Exception) -> list[object]:
        """One operation has a value that cannot be booked: the others of its batch go on without it."""
        late, self._afterwards = self._afterwards, []
        if len(operations) + len(late) == 1:
            return [LedgerError(f"nothing was booked: {error}")] * len(operations)
        return [outcome for operation in [*late, *operations] for outcome in self._outcomes([operation])][len(late) :]

    def _tried(self, operations: Sequence[Operation]) -> list[object]:
        """Operations may be applied twice, so a commit whose outcome is unknown is tried again like any other."""
        for pause in RETRIES:
            try:
                return self._committer.commit(operations)
            except Outage as error:
                log.warning("ledger transaction failed", extra={"reason": str(error)})
                self._closing.wait(pause)
        return self._committer.commit(operations)


def _tell(told: list[Told]) -> None:
    for future, outcome in told:
        if future.cancelled():
            continue
        if isinstance(outcome, LedgerError):
            future.set_exception(outcome)
        else:
            future.set_result(outcome)

"""Answers that were bought: found again in the ledger's index, wherever their bodies lie.

A body is stored in the ledger's database in the very transaction that pays for it, so that no crash can lose it. Where an installation
has an object store, it is moved there afterwards.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Final

from distillery.api import reasons

from .errors import StoreUnavailable, refusal
from .ledger import Ledger, LedgerError, StoredAnswer, Why
from .metrics import GatewayMetrics

if TYPE_CHECKING:
    from .bodies import Bodies

log = logging.getLogger(__name__)
#: Moved at a time, and the pause in seconds when there is no more to move.
_BATCH: Final = 64
_PAUSE: Final = 5.0


@dataclass(frozen=True, slots=True)
class Kept:
    """An answer with its body, what it cost, and the terms that it was bought under."""

    body: bytes
    cost: int
    terms: str


class Answers:
    """The cache. `bodies` is the object store, if there is one."""

    def __init__(self, ledger: Ledger, now: Callable[[], datetime], metrics: GatewayMetrics, bodies: Bodies | None = None) -> None:
        self._ledger, self._now, self._metrics, self._bodies = ledger, now, metrics, bodies

    async def find(self, key: str) -> Kept | None:
        """The answer of a question, if it was bought before. Refused while a store does not answer: it is not bought twice for that."""
        found = await self._ledger.answer(key)
        if found is None:
            return None
        if found.damaged:
            await self._drop(found, Why.BODY_DAMAGED)
            return None
        body = found.body if found.body is not None else await self._fetched(found)
        if body is None:
            await self._drop(found, Why.BODY_GONE)
            return None
        return Kept(body, found.cost, found.terms)

    async def move(self) -> int:
        """Move the oldest bodies that are in the database, as many as may be in memory at a time; gives how many."""
        if self._bodies is None:
            return 0
        found = await self._ledger.unmoved(_BATCH)
        await asyncio.gather(*(self._moved(self._bodies, answer) for answer in found))
        return len(found)

    async def run(self) -> None:
        """Move bodies until cancelled. Without a store there is nothing to do."""
        if self._bodies is None:
            return
        while True:
            try:
                moved = await self.move()
            except (LedgerError, StoreUnavailable) as error:
                log.warning("answers stay in the ledger for now: %s", error)
                moved = 0
            if not moved:
                await asyncio.sleep(_PAUSE)

    def close(self) -> None:
        """End the threads of the store."""
        if self._bodies is not None:
            self._bodies.close()

    async def _drop(self, found: StoredAnswer, why: Why) -> None:
        """What was bought cannot be given again: who asks next buys it anew."""
        where = {"answer": found.key, "hold": found.hold, "location": found.location}
        log.error("a bought answer is lost, it is bought again: %s", why, extra=where)
        self._metrics.lost.labels(why).inc()
        await self._ledger.forget(found.key, found.hold, self._now(), why)

    async def _fetched(self, found: StoredAnswer) -> bytes | None:
        if self._bodies is None or found.location is None:
            text = f"the answer lies at {found.location}, and the gateway has no object store; start it with --answers"
            raise refusal(reasons.GATEWAY_UNAVAILABLE, text, retry_after=60.0)
        try:
            return await self._bodies.get(found.location, found.digest)
        except StoreUnavailable as error:
            raise refusal(reasons.GATEWAY_UNAVAILABLE, f"the store of answers does not answer: {error}", retry_after=5.0) from error

    async def _moved(self, bodies: Bodies, answer: StoredAnswer) -> None:
        if answer.body is None:
            await self._drop(answer, Why.BODY_DAMAGED)
        else:
            await self._ledger.moved(answer.key, answer.hold, await bodies.put(answer.digest, answer.body))

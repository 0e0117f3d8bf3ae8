"""The ledger as the gateway sees it: coroutines that return when what they did is on disk."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from typing import Concatenate, ParamSpec, TypeVar

from sqlalchemy import Connection, Engine
from sqlalchemy.exc import DBAPIError

from . import committing, database, reading
from .contract import (
    Account,
    Answer,
    Granted,
    Head,
    Hold,
    HoldState,
    JobRef,
    JobUsage,
    Need,
    Settled,
    StoredAnswer,
    Swept,
    Unavailable,
    WindowUse,
)
from .resolving import Doubt, Release, Settle
from .spending import GiveBack, Place, Reserve
from .upkeep import Forget, Leave, MarkHit, Moved, Sweep
from .why import Why, outside
from .writer import Writer

P = ParamSpec("P")
T = TypeVar("T")


class Ledger:
    """One gateway's door to the ledger. Every method may raise Unavailable, Fenced or (those that book) ReadOnly."""

    def __init__(self, committer: committing.Committer, engines: tuple[Engine, Engine]) -> None:
        self._committer, self._engines = committer, engines
        self._writer = Writer(committer)
        self._readers = ThreadPoolExecutor(2, "ledger-reader")
        # a look-up in a file takes less than the way to another thread and back
        self._lookup = reading.Lookup(engines[1]) if database.exclusive(engines[1]) else None

    @classmethod
    async def open(cls, url: str, at: datetime) -> Ledger:
        """Open `sqlite:///path` or `postgresql://…`, migrate it, fence an older writer, put what it left dispatched in doubt."""
        engines = database.connect(url), database.connect(url, reading=True)
        try:
            return cls(await asyncio.to_thread(committing.opened, engines[0], at), engines)
        except (DBAPIError, committing.Outage) as error:
            for engine in engines:
                engine.dispose()
            raise Unavailable(f"the ledger's database does not answer: {getattr(error, 'orig', error)}") from error

    async def close(self) -> None:
        """Commit what is queued and close. Holds without an outcome are in doubt when the ledger is opened next."""
        if self.shared:
            self._writer.follow(Leave())
        await asyncio.to_thread(self._writer.close)
        self._readers.shutdown()
        if self._lookup is not None:
            self._lookup.close()
        for engine in self._engines:
            engine.dispose()

    @property
    def read_only(self) -> str | None:
        """Why nothing is granted, as of the last look (each booking and sweep looks); None if it is."""
        return self._committer.read_only

    @property
    def shared(self) -> bool:
        """Whether other gateways may work on it at the same time (Postgres)."""
        return not database.exclusive(self._engines[1])

    @property
    def fenced(self) -> bool:
        """Whether another gateway took over: end the process."""
        return self._writer.fenced is not None

    async def reserve(self, job: JobRef, accounts: tuple[Account, ...], need: Need, at: datetime) -> Granted:
        """Set a pilot or tranche aside for a job and note a sign of life. Raises Refusal if not even `need.smallest` fits."""
        granted: Granted = await self._writer.submit(Reserve(job, accounts, need, at))
        return granted

    async def give_back(self, job: JobRef, at: datetime) -> None:
        """End the job's reservation; requests under way keep their holds. Idempotent."""
        await self._writer.submit(GiveBack(job, at))

    async def hold(self, hold: Hold) -> None:
        """Hold a request's worst case, from the reservation or the windows. Raises Refusal: do not send.

        If the caller is cancelled meanwhile, the hold is released: a caller that sees CancelledError must not have sent.
        """
        placed = self._writer.submit(Place(hold))
        try:
            await placed
        except asyncio.CancelledError:
            self._writer.follow(Release(hold.id, hold.at, Why.CALLER_LEFT))
            raise

    async def settle(
        self,
        hold_id: str,
        amount: int,
        tokens_in: int,
        tokens_out: int,
        at: datetime,
        answer: Answer | None,
        *,
        request_id: str | None = None,
    ) -> Settled:
        """Book what was billed and store the answer, in one transaction. Also for a hold in doubt. Raises HoldResolved.

        `request_id` is the provider's name for the request.
        After Unavailable the ledger goes on trying by itself, as for release and doubt: do not ask again.
        """
        settled: Settled = await self._writer.submit(Settle(hold_id, amount, tokens_in, tokens_out, at, answer, outside(None, request_id)))
        return settled

    async def release(self, hold_id: str, at: datetime, why: Why, *, status: int | None = None, request_id: str | None = None) -> None:
        """The request was provably not billed. Not for a hold in doubt. Raises HoldResolved."""
        await self._writer.submit(Release(hold_id, at, why, outside(status, request_id)))

    async def doubt(self, hold_id: str, at: datetime, why: Why, *, status: int | None = None, request_id: str | None = None) -> None:
        """The outcome is unknown: keep the worst case booked. Raises HoldResolved."""
        await self._writer.submit(Doubt(hold_id, at, why, outside(status, request_id)))

    async def sweep(self, at: datetime) -> Swept:
        """Every few seconds: sign of life of this gateway; idle reservations lapse; holds of dead replicas go in doubt (Postgres)."""
        swept: Swept = await self._writer.submit(Sweep(at))
        return swept

    async def answer(self, key: str) -> StoredAnswer | None:
        """A bought answer."""
        if self._lookup is not None:
            return self._lookup.answer(key)
        return await self._read(reading.answer, key)

    async def asked_elsewhere(self, key: str) -> str | None:
        """The hold under which another gateway asks this question now; None if none does. `hold` looks again, and decides."""
        return await self._read(reading.asked_elsewhere, key, self._committer.writer) if self.shared else None

    async def state(self, hold_id: str) -> HoldState | None:
        """How a hold stands; None for an unknown one."""
        return await self._read(reading.state, hold_id)

    async def forget(self, key: str, hold: str, at: datetime, why: Why) -> None:
        """Drop an answer whose body is lost or of no use, so that it is bought again. One that another hold bought since stays."""
        await self._writer.submit(Forget(key, at, why, hold))

    async def mark_hit(self, job: JobRef, saved: int, at: datetime) -> None:
        """Count a cache hit that would have cost `saved`."""
        await self._writer.submit(MarkHit(job, saved, at))

    async def unmoved(self, limit: int, most_bytes: int = 1 << 24) -> list[StoredAnswer]:
        """The oldest answers whose body is in the database, at most `limit`; beyond the first no more than have so many bytes."""
        return await self._read(reading.unmoved, limit, most_bytes)

    async def moved(self, key: str, hold: str, location: str) -> None:
        """The body that this hold bought lies in the object store now: forget it here."""
        await self._writer.submit(Moved(key, hold, location))

    async def jobs(self, uid: str) -> list[JobRef]:
        """A job by its uid alone, on the account of each budget that it had."""
        return await self._read(reading.jobs, uid)

    async def usage(self, job: JobRef) -> JobUsage:
        """What a job has asked and paid; zeros for an unknown one."""
        return await self._read(reading.usage, job)

    async def windows(self, accounts: tuple[Account, ...]) -> list[WindowUse]:
        """Balances of the given accounts, in their order."""
        return await self._read(reading.windows, accounts)

    async def saved(self, budget: str) -> int:
        """What the cache saved all jobs of a budget."""
        return await self._read(reading.saved, budget)

    async def head(self) -> Head:
        """The end of the chain."""
        return await self._read(reading.head)

    async def entries(self, after: int, limit: int) -> list[str]:
        """JSON lines of the chain with sequence > after, at most `limit`."""
        return await self._read(_lines, after, limit)

    async def _read(self, question: Callable[Concatenate[Connection, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
        def asked() -> T:
            with self._engines[1].connect() as connection:
                return question(connection, *args, **kwargs)

        try:
            return await asyncio.get_running_loop().run_in_executor(self._readers, asked)
        except DBAPIError as error:
            raise Unavailable(f"the ledger's database does not answer: {error.orig}") from error


def _lines(connection: Connection, after: int, limit: int) -> list[str]:
    return [entry.line() for entry in reading.entries(connection, after, limit)]

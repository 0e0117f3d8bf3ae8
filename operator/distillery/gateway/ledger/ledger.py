"""The ledger as the gateway sees it: coroutines that return when what they did is on disk."""

from __future__ import annotations

from datetime import datetime

from .types import (
    Account,
    Answer,
    Granted,
    Head,
    Hold,
    JobRef,
    JobUsage,
    Need,
    Settled,
    StoredAnswer,
    Swept,
    WindowUse,
)  # fmt: skip


class Ledger:
    """One gateway's door to the ledger. Every method may raise Unavailable, Fenced or (those that book) ReadOnly."""

    @classmethod
    async def open(cls, url: str, at: datetime) -> Ledger:
        """Open `sqlite:///path` or `postgresql://…`, migrate it, fence an older writer, put what it left dispatched in doubt."""
        raise NotImplementedError

    async def close(self) -> None:
        """Commit what is queued and close."""
        raise NotImplementedError

    @property
    def read_only(self) -> str | None:
        """Why nothing is granted, as of the last look (each booking and sweep looks); None if it is."""
        raise NotImplementedError

    @property
    def fenced(self) -> bool:
        """Whether another gateway took over: end the process."""
        raise NotImplementedError

    async def reserve(self, job: JobRef, accounts: tuple[Account, ...], need: Need, at: datetime) -> Granted:
        """Set a pilot or tranche aside for a job and note a sign of life. Raises Refusal if not even `need.smallest` fits."""
        raise NotImplementedError

    async def give_back(self, job: JobRef, at: datetime) -> None:
        """End the job's reservation; requests under way keep their holds. Idempotent."""
        raise NotImplementedError

    async def hold(self, hold: Hold) -> None:
        """Hold a request's worst case, from the reservation or the windows. Raises Refusal: do not send."""
        raise NotImplementedError

    async def settle(self, hold_id: str, amount: int, tokens_in: int, tokens_out: int, at: datetime, answer: Answer | None) -> Settled:
        """Book what was billed and store the answer, in one transaction. Also for a hold in doubt. Raises HoldResolved."""
        raise NotImplementedError

    async def release(self, hold_id: str, at: datetime, why: str) -> None:
        """The request was provably not billed. Not for a hold in doubt. Raises HoldResolved."""
        raise NotImplementedError

    async def doubt(self, hold_id: str, at: datetime, why: str) -> None:
        """The outcome is unknown: keep the worst case booked. Raises HoldResolved."""
        raise NotImplementedError

    async def sweep(self, at: datetime) -> Swept:
        """Every 15 s: sign of life of this gateway; idle reservations lapse; holds of dead replicas go in doubt (Postgres)."""
        raise NotImplementedError

    async def answer(self, key: str) -> StoredAnswer | None:
        """A bought answer."""
        raise NotImplementedError

    async def mark_hit(self, job: JobRef, saved: int, at: datetime) -> None:
        """Count a cache hit that would have cost `saved`."""
        raise NotImplementedError

    async def unmoved(self, limit: int) -> list[StoredAnswer]:
        """The oldest answers whose body is in the database."""
        raise NotImplementedError

    async def moved(self, key: str, location: str) -> None:
        """The body lies in the object store now: forget it here."""
        raise NotImplementedError

    async def usage(self, job: JobRef) -> JobUsage:
        """What a job has asked and paid; zeros for an unknown one."""
        raise NotImplementedError

    async def windows(self, accounts: tuple[Account, ...]) -> list[WindowUse]:
        """Balances of the given accounts, in their order."""
        raise NotImplementedError

    async def saved(self, budget: str) -> int:
        """What the cache saved all jobs of a budget."""
        raise NotImplementedError

    async def head(self) -> Head:
        """The end of the chain."""
        raise NotImplementedError

    async def entries(self, after: int, limit: int) -> list[str]:
        """JSON lines of the chain with sequence > after, at most `limit`."""
        raise NotImplementedError

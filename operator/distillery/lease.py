"""Leader election on a coordination.k8s.io Lease: one replica acts, the others wait.

The rules are client-go's: a holder renews every RETRY seconds and steps back when it could not for RENEW_DEADLINE; others take over when
the Lease stood unchanged for DURATION on their own clock, so clocks of different machines are never compared. What a paused holder
may still do is bounded by `check`, which every write asks first.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine
from datetime import UTC, datetime
from typing import Any, Protocol

from .cluster import AlreadyExists, ClusterError, Conflict, LeadershipLost, NotFound

log = logging.getLogger(__name__)

DURATION = 15.0
RENEW_DEADLINE = 10.0
RETRY = 2.0
#: Seconds that the work has to end before the Lease is given back.
STOPPING = 1.5


class Leases(Protocol):
    """Reads and writes of one Lease object."""

    async def get_lease(self, namespace: str, name: str) -> dict[str, Any]:
        """The Lease as it is now. NotFound."""

    async def create_lease(self, body: dict[str, Any]) -> dict[str, Any]:
        """Create. AlreadyExists."""

    async def replace_lease(self, body: dict[str, Any]) -> dict[str, Any]:
        """Replace at the body's resourceVersion. Conflict."""


class Lease:
    """This replica's candidacy. `clock` is monotonic, in seconds; it must go on while the process is stopped."""

    def __init__(self, leases: Leases, namespace: str, name: str, identity: str, clock: Callable[[], float]) -> None:
        self._leases = leases
        self._metadata = {"namespace": namespace, "name": name}
        self.identity = identity
        self._clock = clock
        self._deadline = float("-inf")
        self._body: dict[str, Any] = {}
        self._seen_at = float("-inf")
        self.contact = float("-inf")
        """When the API server last answered."""

    def held(self) -> bool:
        """Whether this replica leads, by its own clock alone."""
        return self._clock() < self._deadline

    def check(self) -> None:
        """LeadershipLost where the deadline has passed: asked before every write."""
        if not self.held():
            raise LeadershipLost(f"{self.identity} no longer holds Lease {self._metadata['namespace']}/{self._metadata['name']}")

    async def acquire(self) -> None:
        """Return once this replica leads."""
        while not await self._attempt():
            expires = self._seen_at + self._duration() - self._clock()
            await asyncio.sleep(expires if 0 < expires < RETRY else RETRY)
        log.info("leading", extra={"identity": self.identity})

    async def renew(self) -> None:
        """Renew until that fails for RENEW_DEADLINE or another replica leads, then return."""
        while self.held():
            await asyncio.sleep(RETRY)
            await self._attempt()
        log.error("leadership lost", extra={"identity": self.identity, "holder": self._holder()})

    async def release(self) -> None:
        """Give the Lease back, so that another replica leads at once; what fails here heals when the Lease expires."""
        if not self.held():
            return
        self._deadline = float("-inf")
        try:
            async with asyncio.timeout(RETRY):
                await self._write("")
        except (ClusterError, TimeoutError) as error:
            log.warning("the Lease was not released: %s", error)

    def _holder(self) -> str:
        return str(self._body.get("spec", {}).get("holderIdentity") or "")

    async def _attempt(self) -> bool:
        """One round: True where we lead afterwards. Only a success moves the deadline, counted from before the request."""
        started = self._clock()
        patience = self._deadline - started if self.held() else RENEW_DEADLINE
        try:
            async with asyncio.timeout(patience):
                return await self._round(started)
        except (ClusterError, TimeoutError) as error:
            log.warning("the Lease could not be read or written: %s", str(error) or "no answer in time", extra={"identity": self.identity})
            return False

    async def _round(self, started: float) -> bool:
        try:
            self._observe(await self._leases.get_lease(self._metadata["namespace"], self._metadata["name"]))
        except NotFound:
            self._body = {}
        if self._holder() not in ("", self.identity) and started - self._seen_at < self._duration():
            self._deadline = float("-inf")
            return False
        try:
            await self._write(self.identity)
        except (AlreadyExists, Conflict):
            return False
        self._deadline = started + RENEW_DEADLINE
        return True

    def _observe(self, body: dict[str, Any]) -> None:
        self.contact = self._clock()
        version = body["metadata"]["resourceVersion"]
        if version != self._body.get("metadata", {}).get("resourceVersion"):
            self._seen_at = self._clock()
        self._body = body

    def _duration(self) -> float:
        return float(self._body.get("spec", {}).get("leaseDurationSeconds") or DURATION)

    async def _write(self, holder: str) -> None:
        now = datetime.now(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
        old = self._body.get("spec", {})
        changed = holder != self._holder()
        spec = {
            "holderIdentity": holder,
            "leaseDurationSeconds": int(DURATION if holder else 1),
            "acquireTime": now if changed or not old.get("acquireTime") else old["acquireTime"],
            "renewTime": now,
            "leaseTransitions": int(old.get("leaseTransitions") or 0) + int(changed and bool(holder)),
        }
        body = {"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "spec": spec}
        if self._body:
            written = await self._leases.replace_lease(
                {**body, "metadata": {**self._metadata, "resourceVersion": self._body["metadata"]["resourceVersion"]}}
            )
        else:
            written = await self._leases.create_lease({**body, "metadata": self._metadata})
        self._observe(written)


async def lead(lease: Lease, work: Callable[[], Coroutine[None, None, None]], stop: asyncio.Event) -> bool:
    """Wait for leadership, do the work, give the Lease back. True where `stop` ended it; False where the work or the leadership ended by
    itself, and the process must exit non-zero to be started afresh. What the work raises is raised."""
    stopping = asyncio.create_task(stop.wait())
    acquiring = asyncio.create_task(lease.acquire())
    tasks: set[asyncio.Task[Any]] = {stopping, acquiring}
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        if not stop.is_set():
            acquiring.result()
            tasks = {stopping, asyncio.create_task(work()), asyncio.create_task(lease.renew())}
            ended, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in ended:
                task.result()
        return stop.is_set()
    finally:
        for task in tasks:
            task.cancel()
        # Work that does not end in time cannot write any more once the Lease is given back.
        await asyncio.wait(tasks, timeout=STOPPING)
        await lease.release()

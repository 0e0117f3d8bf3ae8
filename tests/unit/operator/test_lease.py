"""Leader election, in virtual time, on an in-memory Lease with resourceVersions."""

import asyncio
import copy
from collections.abc import Callable
from typing import Any

import pytest

from distillery.cluster import AlreadyExists, Conflict, LeadershipLost, NotFound, Unavailable
from distillery.lease import DURATION, RENEW_DEADLINE, RETRY, Lease, lead

pytestmark = pytest.mark.looptime


class Leases:
    """One Lease, as the API server keeps it."""

    def __init__(self) -> None:
        self.body: dict[str, Any] | None = None
        self.version = 0
        self.writes: list[tuple[float, str]] = []

    def _store(self, body: dict[str, Any]) -> dict[str, Any]:
        self.version += 1
        self.body = copy.deepcopy(body)
        self.body["metadata"]["resourceVersion"] = str(self.version)
        self.writes.append((asyncio.get_running_loop().time(), body["spec"]["holderIdentity"]))
        return copy.deepcopy(self.body)

    async def get_lease(self, namespace: str, name: str) -> dict[str, Any]:
        if self.body is None:
            raise NotFound
        return copy.deepcopy(self.body)

    async def create_lease(self, body: dict[str, Any]) -> dict[str, Any]:
        if self.body is not None:
            raise AlreadyExists
        return self._store(body)

    async def replace_lease(self, body: dict[str, Any]) -> dict[str, Any]:
        assert self.body is not None
        if body["metadata"]["resourceVersion"] != self.body["metadata"]["resourceVersion"]:
            raise Conflict
        return self._store(body)


class Cut:
    """The way of one replica to the Lease, which can be cut (`down`) or made to hang (`hangs`)."""

    def __init__(self, leases: Leases) -> None:
        self._leases = leases
        self.down = self.hangs = False

    def __getattr__(self, name: str) -> Callable[..., Any]:
        async def call(*arguments: Any) -> Any:
            if self.hangs:
                await asyncio.Event().wait()
            if self.down:
                raise Unavailable("connection refused")
            return await getattr(self._leases, name)(*arguments)

        return call


def replica(leases: Any, identity: str) -> Lease:
    return Lease(leases, "system", "operator", identity, asyncio.get_running_loop().time)


def now() -> float:
    return asyncio.get_running_loop().time()


async def test_the_first_replica_leads_at_once_and_the_second_waits() -> None:
    leases = Leases()
    first, second = replica(leases, "a"), replica(leases, "b")
    await first.acquire()
    assert now() == 0
    waiting = asyncio.create_task(second.acquire())
    renewing = asyncio.create_task(first.renew())
    await asyncio.sleep(100)
    assert first.held()
    assert not waiting.done()
    assert not renewing.done()
    waiting.cancel()
    renewing.cancel()


async def test_a_killed_leader_is_followed_within_the_duration() -> None:
    leases = Leases()
    first, second = replica(leases, "a"), replica(leases, "b")
    await first.acquire()
    renewing = asyncio.create_task(first.renew())
    waiting = asyncio.create_task(second.acquire())
    await asyncio.sleep(31)
    renewing.cancel()
    killed = now()
    await waiting
    assert DURATION - RETRY <= now() - killed <= DURATION + 0.1
    assert leases.body is not None
    assert leases.body["spec"]["leaseTransitions"] == 2


async def test_two_replicas_never_hold_at_once_when_the_leader_is_cut_off() -> None:
    leases = Leases()
    way = Cut(leases)
    first, second = replica(way, "a"), replica(leases, "b")
    await first.acquire()
    renewing = asyncio.create_task(first.renew())
    waiting = asyncio.create_task(second.acquire())
    await asyncio.sleep(5)
    way.down = True
    cut = now()
    await renewing
    assert now() - cut <= RENEW_DEADLINE + RETRY
    assert not first.held()
    with pytest.raises(LeadershipLost, match="a no longer holds Lease system/operator"):
        first.check()
    assert not waiting.done(), "the deadline of the old leader ends before the new one takes over"
    await waiting
    assert second.held()


async def test_an_api_server_that_hangs_costs_leadership_at_the_deadline_not_later() -> None:
    way = Cut(Leases())
    first = replica(way, "a")
    await first.acquire()
    way.hangs = True
    await first.renew()
    assert now() == pytest.approx(RENEW_DEADLINE, abs=0.01)


async def test_a_short_outage_is_survived() -> None:
    way = Cut(Leases())
    first = replica(way, "a")
    await first.acquire()
    renewing = asyncio.create_task(first.renew())
    await asyncio.sleep(1)
    way.down = True
    await asyncio.sleep(RENEW_DEADLINE - 3)
    way.down = False
    await asyncio.sleep(60)
    assert first.held()
    renewing.cancel()


async def test_a_paused_leader_that_wakes_writes_nothing() -> None:
    leases = Leases()
    clock = {"skipped": 0.0}
    first = Lease(leases, "system", "operator", "a", lambda: now() + clock["skipped"])
    await first.acquire()
    first.check()
    clock["skipped"] = RENEW_DEADLINE
    with pytest.raises(LeadershipLost):
        first.check()


async def test_a_released_lease_is_taken_at_the_next_try() -> None:
    leases = Leases()
    first, second = replica(leases, "a"), replica(leases, "b")
    await first.acquire()
    waiting = asyncio.create_task(second.acquire())
    await asyncio.sleep(1)
    await first.release()
    released = now()
    await waiting
    assert now() - released <= RETRY


async def test_lead_ends_true_when_stopped_and_gives_the_lease_back() -> None:
    leases, stop, ended = Leases(), asyncio.Event(), []

    async def work() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.append(now())

    asyncio.get_running_loop().call_later(30, stop.set)
    assert await lead(replica(leases, "a"), work, stop)
    assert ended == [30]
    assert leases.writes[-1] == (30, "")


async def test_lead_is_stopped_while_it_waits() -> None:
    leases, stop = Leases(), asyncio.Event()
    await replica(leases, "other").acquire()

    async def work() -> None:
        pytest.fail("this replica does not lead")

    asyncio.get_running_loop().call_later(3, stop.set)
    assert await lead(replica(leases, "a"), work, stop)
    assert leases.writes == [(0, "other")], "what others hold is not released"


async def test_work_that_ends_by_itself_ends_leadership() -> None:
    leases = Leases()

    async def work() -> None:
        await asyncio.sleep(7)

    assert not await lead(replica(leases, "a"), work, asyncio.Event())
    assert leases.writes[-1] == (7, "")


async def test_work_that_fails_ends_leadership_and_is_heard() -> None:
    leases = Leases()

    async def work() -> None:
        raise ValueError("watch died")

    with pytest.raises(ValueError, match="watch died"):
        await lead(replica(leases, "a"), work, asyncio.Event())
    assert leases.writes[-1][1] == ""


async def test_lost_leadership_ends_the_work() -> None:
    leases, ended = Leases(), []
    way = Cut(leases)

    async def work() -> None:
        asyncio.get_running_loop().call_later(3, setattr, way, "down", True)
        try:
            await asyncio.Event().wait()
        finally:
            ended.append(now())

    assert not await lead(replica(way, "a"), work, asyncio.Event())
    assert ended
    assert ended[0] <= 3 + RENEW_DEADLINE


async def test_work_that_does_not_end_in_time_cannot_write_any_more() -> None:
    leases, stop = Leases(), asyncio.Event()
    lease, refused = replica(leases, "a"), []

    async def work() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(60)
            try:
                lease.check()
            except LeadershipLost:
                refused.append(now())

    asyncio.get_running_loop().call_later(5, stop.set)
    assert await lead(lease, work, stop)
    assert now() < 5 + RETRY
    await asyncio.sleep(120)
    assert refused

"""R4 and R9: what is read is old, or was read long ago; then nothing wrong is created or deleted, and all ends alike."""

from __future__ import annotations

import itertools
import random
from collections.abc import Coroutine, Generator
from typing import Any

import pytest
from tests.crash.history import ends_alike, history, state
from tests.crash.paths import PATHS
from tests.crash.world import World

from distillery.cluster import ClusterError

READS = ("get_job", "children", "get_child")
#: Paths on which nobody asks for a running Job to be deleted.
WITHOUT_DELETION = ["golden", "exports", "reused stages", "store unavailable twice", "result lost", "user's mistake", "queued", "endpoint"]


SLEEPING = [
    "golden", "exports", "store unavailable twice", "suspended and resumed", "cancelled", "deadline", "endpoint", "endpoint, cancelled",
    "endpoint, out of budget midway",
]  # fmt: skip


# Not 'job vanished': a Job that someone else deletes between an old read and its create is created again, under its name. Reads of a real
# API server are quorum reads; what is left of this is a leader that sleeps between two calls, and the Lease's deadline guards its writes.
@pytest.mark.parametrize("path", [path for path in PATHS if path != "job vanished"])
async def test_any_read_may_be_one_version_old(path: str) -> None:
    make = PATHS[path]
    passes = await history(make())
    for start, (snapshot, calls) in enumerate(passes):
        for old in range(sum(call in READS for call in calls)):
            world = make()
            world.restore(snapshot)
            number = itertools.count()
            world.cluster.lag = lambda number=number, old=old: next(number) == old  # type: ignore[misc]
            assert await ends_alike(world, passes, start, state), f"pass {start}, read {old}"
            assert max(world.cluster.created.values()) == 1
            if path in WITHOUT_DELETION:
                assert "delete_job" not in world.cluster.calls


async def to_the_end(world: World) -> World:
    """Until nothing is left to do."""
    while await world.tick():
        pass
    return world


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("path", WITHOUT_DELETION)
async def test_every_third_read_may_be_old(path: str, seed: int) -> None:
    chance = random.Random(seed)
    world = PATHS[path]()
    world.cluster.lag = lambda: chance.random() < 0.33
    await to_the_end(world)
    assert state(world.cluster.objects) == state((await to_the_end(PATHS[path]())).cluster.objects)
    assert max(world.cluster.created.values()) == 1
    assert "delete_job" not in world.cluster.calls


class Turn:
    """Lets the one who drives the coroutine go on elsewhere."""

    def __await__(self) -> Generator[None, None, None]:
        yield


async def turn() -> None:
    """One."""
    await Turn()


def advance(coroutine: Coroutine[Any, Any, Any]) -> bool:
    """Up to the next call; False when it is over, however it ended."""
    try:
        coroutine.send(None)
    except (StopIteration, ClusterError):
        return False
    return True


@pytest.mark.parametrize("path", SLEEPING)
async def test_a_leader_that_wakes_after_another_has_finished_does_no_harm(path: str) -> None:
    make = PATHS[path]
    passes = await history(make())
    final = state(passes[-1][0].objects)
    for start, (snapshot, calls) in enumerate(passes):
        for call in range(2, len(calls) + 1):
            world = make()
            world.restore(snapshot)
            world.cluster.pause = turn
            sleeper = world.reconcile()
            for _ in range(call):
                advance(sleeper)
            world.cluster.pause = None
            await to_the_end(world)
            jobs = {name for kind, _, name in world.cluster.created if kind == "Job"}
            while advance(sleeper):
                pass
            await to_the_end(world)
            assert state(world.cluster.objects) == final, f"pass {start}, asleep before call {call}"
            assert {name for kind, _, name in world.cluster.created if kind == "Job"} == jobs

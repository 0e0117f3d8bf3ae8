"""R1 and R2: the operator dies at every call of every path, before and after the call took effect, and ends where it would have ended."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from tests.crash.fake_cluster import Store
from tests.crash.paths import PATHS
from tests.crash.world import Snapshot, World

from distillery.api import reasons

TIMES = {
    "lastTransitionTime",
    "startTime",
    "completionTime",
    "runStartTime",
    "observedTime",
    "finishedAt",
    "activeSeconds",
    "creationTimestamp",
}
VERSIONS = {"resourceVersion", "eventTime", "uid", "distillery.dev/uid"}


def outline(value: object) -> object:
    """What is left of objects without times, versions and uids, which depend on how often something was tried."""
    if isinstance(value, dict):
        return {str(k): outline(v) for k, v in value.items() if k not in TIMES | VERSIONS}
    return [outline(v) for v in value] if isinstance(value, list) else value


def settled(objects: Store) -> object:
    """What must be the same. Not the Event that a Job waits for quota: whoever comes a moment later does not see it wait."""
    return outline([body for body in objects.values() if body.get("reason") != reasons.WAITING_FOR_QUOTA])


async def history(world: World) -> list[tuple[Snapshot, int]]:
    """The uninterrupted run: before each pass its snapshot, and how many calls the pass made."""
    found = []
    going = True
    while going:
        before, calls = world.snapshot(), len(world.cluster.calls)
        going = await world.tick()
        found.append((before, len(world.cluster.calls) - calls))
    found.append((world.snapshot(), 0))
    return found


async def ends_alike(world: World, passes: list[tuple[Snapshot, int]], start: int) -> bool:
    """Go on until the world stands where the uninterrupted run stood (from there it must end alike), or has ended."""
    final = settled(passes[-1][0].objects)
    while await world.tick():
        now = world.snapshot()
        if any(now == snapshot for snapshot, _ in passes[start:]):
            return True
    return settled(world.cluster.objects) == final


@pytest.mark.parametrize("path", PATHS)
async def test_dying_at_any_call_changes_nothing(path: str) -> None:
    make: Callable[[], World] = PATHS[path]
    passes = await history(make())
    for start, (snapshot, calls) in enumerate(passes):
        for call in range(1, calls + 1):
            for after in (False, True):
                world = make()
                world.restore(snapshot)
                world.cluster.kill_at, world.cluster.kill_after_effect = call, after
                assert await ends_alike(world, passes, start), f"pass {start}, call {call}, {'after' if after else 'before'} its effect"
                assert max(n for (kind, *_), n in world.cluster.created.items()) <= 1

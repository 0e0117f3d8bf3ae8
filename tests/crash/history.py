"""A run that nothing disturbs, and whether a disturbed one ends as it did."""

from __future__ import annotations

from collections.abc import Callable

from tests.crash.fake_cluster import Store
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
    return {name: outline(body) for name, body in objects.items() if body.get("reason") != reasons.WAITING_FOR_QUOTA}


def state(objects: Store) -> object:
    """All but Events: they are told before the status is written, so one that follows from an old read may be too many."""
    return settled({name: body for name, body in objects.items() if body["kind"] != "Event"})


async def history(world: World) -> list[tuple[Snapshot, list[str]]]:
    """The uninterrupted run: before each pass its snapshot, and the calls that the pass made."""
    found = []
    going = True
    while going:
        before, calls = world.snapshot(), len(world.cluster.calls)
        going = await world.tick()
        found.append((before, world.cluster.calls[calls:]))
    return [*found, (world.snapshot(), [])]


async def ends_alike(world: World, passes: list[tuple[Snapshot, list[str]]], start: int, what: Callable[[Store], object] = settled) -> bool:
    """Go on until the world stands where the uninterrupted run stood (from there it must end alike), or has ended."""
    while await world.tick():
        now = world.snapshot()
        if any(now == snapshot for snapshot, _ in passes[start:]):
            return True
    return what(world.cluster.objects) == what(passes[-1][0].objects)

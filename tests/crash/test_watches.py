"""R3, R5 and R6: driven by watch events alone, as far as `news` lets them through; each may be lost; what does not move causes nothing."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from datetime import timedelta

import pytest
from tests.crash.ends import End
from tests.crash.fake_cluster import Killed
from tests.crash.history import history, settled, state
from tests.crash.paths import PATHS
from tests.crash.specs import MINIMAL
from tests.crash.world import World

from distillery.api.result import Progress
from distillery.cluster import Body
from distillery.news import News
from distillery.observe import is_settled
from distillery.settings import Settings

RESYNC = timedelta(seconds=330)
WRITES = {"create_config_map", "create_job", "create_event", "delete_job", "patch_status", "delete_distillation_job"}
NEVER = timedelta(days=1)


class Watching:
    """The operator as it runs: a pass per batch of watch events, after the delay that a pass asked for, and at each resync.

    Every change of an object of a watched kind is one event; the event number `lost` never arrives. It begins with what is there.
    """

    def __init__(self, world: World, lost: int | None = None) -> None:
        self.world, self.lost = world, lost
        self.events, self.queued, self.news = 0, False, News()
        self.coming: list[tuple[str, Body]] = [("ADDED", body) for body in world.cluster.objects.values()]
        world.cluster.heard = lambda kind, body: self.coming.append((kind, body))
        world.cluster.wrote = self.news.wrote
        self.timer, self.resync = NEVER, RESYNC
        self.start = world.now
        self.resynced, self.resync_calls = False, 0

    async def run(self) -> timedelta:
        """Until the job has ended; returns how long that took."""
        while True:
            self._deliver()
            if self.queued:
                await self._pass()
            elif self.world.user and self.world.user[0].when(self.world):
                self.world.user.pop(0).act(self.world)
            elif not self.world.step():
                if self.world.ended() and self.timer == NEVER:
                    return self.world.now - self.start
                self._sleep()

    async def wait(self, minutes: float) -> int:
        """Let time pass; the requests to the API server and the gateway that it cost, without those of resyncs."""
        calls, end = self.world.cluster.calls, self.world.now + timedelta(minutes=minutes)
        before = len(calls) - self.resync_calls
        while True:
            self._deliver()
            if self.queued:
                await self._pass()
            elif not self.world.step():
                if self.world.now - self.start + self._next() > end - self.start:
                    self.world.now = end
                    return len(calls) - self.resync_calls - before
                self._sleep()

    def _next(self) -> timedelta:
        """Until the operator does something by itself."""
        return max(timedelta(), min(self.timer, self.resync) - (self.world.now - self.start))

    def _deliver(self) -> None:
        for change, body in self.coming:
            if body["kind"] not in ("DistillationJob", "TeacherBudget", "Job"):
                continue
            if self.events != self.lost:
                self.queued = self._is_news(change, body) or self.queued
            self.events += 1
        self.coming.clear()

    def _is_news(self, change: str, body: Body) -> bool:
        """A budget wakes the jobs that it pays for and that have not ended (`reconcile_budget`)."""
        if body["kind"] == "TeacherBudget":
            return not self.world.ended()
        return self.news.of_child(body, change == "DELETED") if body["kind"] == "Job" else self.news.of_job(body)

    async def _pass(self) -> None:
        assert self.world.passes < 500
        self.queued, calls = False, len(self.world.cluster.calls)
        after = await self.world.reconcile()
        self.resync_calls += len(self.world.cluster.calls) - calls if self.resynced else 0
        self.resynced = self.resynced and after == 0
        self.timer = self.world.now - self.start + timedelta(seconds=after) if after is not None else NEVER
        self.queued = after == 0

    def _sleep(self) -> None:
        wake = min(self.timer, self.resync)
        self.world.now = max(self.world.now, self.start + wake)
        self.queued = wake == self.timer
        if wake == self.resync:
            self.resync += RESYNC
            self.resynced = not self.queued
            self.queued = self.queued or not is_settled(self.world.job)
        self.timer = NEVER


@pytest.mark.parametrize("path", ["golden", "exports", "suspended and resumed", "job vanished", "endpoint", "endpoint, budget missing"])
async def test_any_watch_event_may_be_lost(path: str) -> None:
    make: Callable[[], World] = PATHS[path]
    whole = Watching(make())
    took = await whole.run()
    final = settled(whole.world.cluster.objects)
    for lost in range(whole.events):
        watching = Watching(make(), lost)
        late = await watching.run() - took
        assert late <= timedelta(minutes=6), f"event {lost}"
        assert settled(watching.world.cluster.objects) == final, f"event {lost}"


@pytest.mark.parametrize("path", PATHS)
async def test_what_is_there_tells_a_new_process_all(path: str) -> None:
    """Its predecessor died after any call. What has ended is no news; what it left undone is."""
    make: Callable[[], World] = PATHS[path]
    passes = await history(make())
    for start, (snapshot, calls) in enumerate(passes):
        for call in range(1, len(calls) + 1):
            world = make()
            world.restore(snapshot)
            world.cluster.kill_at, world.cluster.kill_after_effect = call, True
            with suppress(Killed):
                await world.reconcile()
            await Watching(world).run()
            assert state(world.cluster.objects) == state(passes[-1][0].objects), f"pass {start}, call {call}"


async def test_what_has_ended_costs_a_new_process_nothing() -> None:
    world = World()
    await world.run()
    world.cluster.calls.clear()
    await Watching(world).run()
    assert world.cluster.calls == []


@pytest.mark.parametrize("path", [path for path in PATHS if "refused at" not in path and "refuses" not in path])
async def test_what_does_not_move_causes_no_write(path: str) -> None:
    world = PATHS[path]()
    going = True
    while going:
        going = await world.tick()
        before, versions = dict(world.cluster.objects), world.cluster.versions
        await world.settle()
        if versions == world.cluster.versions:
            calls = len(world.cluster.calls)
            await world.settle()
            assert not WRITES & set(world.cluster.calls[calls:])
            assert before == world.cluster.objects


@pytest.mark.parametrize(("path", "most"), [("golden", 12), ("endpoint", 17)])
async def test_a_stage_costs_few_passes_and_requests(path: str, most: int) -> None:
    watching = Watching(PATHS[path]())
    await watching.run()
    stages = len(watching.world.status["stages"])
    calls = watching.world.cluster.calls
    assert watching.world.passes <= 3 * stages
    assert calls.count("patch_status") <= 3 * stages
    assert len(calls) <= most * stages


async def test_progress_is_written_every_thirty_seconds_however_often_it_is_looked_at() -> None:
    world = World(
        spec=MINIMAL, settings=Settings(gateway_url="http://gateway"), script=lambda stage, run: None if stage == "train" else End()
    )
    await world.run(until=lambda: world.stage("train").get("state") == "Running")
    world.step()
    before = world.cluster.calls.count("patch_status")
    for second in range(600):
        world.gateway.reports = {"train": Progress(stage="train", percentage=second // 6, done=second)}
        world.now += timedelta(seconds=1)
        await world.settle()
    assert world.cluster.calls.count("patch_status") - before <= 600 / 30 + 1

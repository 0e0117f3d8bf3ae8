"""The work queue, in virtual time."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest

from distillery.metrics import Metrics
from distillery.queue import FIRST_DELAY, LONGEST_DELAY, PATIENCE, SHARE, Queue

pytestmark = pytest.mark.looptime


def now() -> float:
    return asyncio.get_running_loop().time()


@asynccontextmanager
async def running(queue: Queue[str], handler: Callable[[str], Awaitable[float | None]], concurrency: int = 1) -> AsyncIterator[None]:
    task = asyncio.create_task(queue.run(handler, concurrency))
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


class Recorder:
    """A handler that takes `seconds` for a key, then does what the list of outcomes says: a number, None, or an exception to raise."""

    def __init__(self, seconds: float = 0, outcomes: list[float | Exception | None] | None = None) -> None:
        self.seconds = seconds
        self.outcomes = outcomes or []
        self.started: list[tuple[float, str]] = []
        self.in_hand: list[str] = []
        self.most = 0

    async def __call__(self, key: str) -> float | None:
        assert key not in self.in_hand, "a key is in two hands"
        self.in_hand.append(key)
        self.most = max(self.most, len(self.in_hand))
        self.started.append((round(now(), 3), key))
        await asyncio.sleep(self.seconds)
        self.in_hand.remove(key)
        outcome = self.outcomes.pop(0) if self.outcomes else None
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    def times(self) -> list[float]:
        return [time for time, _ in self.started]


async def test_a_key_added_many_times_is_handled_once() -> None:
    queue, seen = Queue[str](Metrics()), Recorder()
    for _ in range(100):
        queue.add("a")
    async with running(queue, seen):
        await asyncio.sleep(10)
    assert seen.started == [(0, "a")]


async def test_a_key_added_while_in_hand_is_handled_once_more_and_never_twice_at_once() -> None:
    queue, seen = Queue[str](Metrics()), Recorder(seconds=5)
    async with running(queue, seen, concurrency=4):
        queue.add("a")
        await asyncio.sleep(1)
        queue.add("a")
        queue.add("a")
        await asyncio.sleep(20)
    assert seen.times() == [0, 5]


async def test_what_comes_first_overtakes_but_holds_nobody_up_for_ever() -> None:
    queue, seen = Queue[str](Metrics()), Recorder(seconds=1)
    for key in ("a", "b", "c"):
        queue.add(key)
    queue.add("x", first=True)
    queue.add("c", first=True)
    async with running(queue, seen):
        for n in range(int(PATIENCE) + 10):
            await asyncio.sleep(1)
            queue.add(f"first-{n}", first=True)
    order = [key for _, key in seen.started]
    assert order[:2] == ["x", "c"]
    assert order.count("c") == 1
    assert order.index("a") == PATIENCE
    assert order.index("b") == PATIENCE + SHARE


async def test_a_thousand_keys_that_have_waited_long_do_not_hold_up_what_comes_first() -> None:
    queue, seen, concurrency = Queue[str](Metrics()), Recorder(seconds=1), 10
    for number in range(1000):
        queue.add(f"new-{number}")
    added: dict[str, float] = {}
    async with running(queue, seen, concurrency):
        for number in range(300):
            added[f"end-{number}"] = now()
            queue.add(f"end-{number}", first=True)
            await asyncio.sleep(0.3)
        await asyncio.sleep(60)
    assert len(seen.started) == 1300
    waited = [time - added[key] for time, key in seen.started if key in added]
    assert max(waited) <= 2, "a pass that is under way, and a turn of the others"
    assert max(time for time, key in seen.started if key not in added) <= 130, "which lose nothing by it"


async def test_concurrency_is_bounded_and_used() -> None:
    queue, seen = Queue[str](Metrics()), Recorder(seconds=1)
    async with running(queue, seen, concurrency=3):
        for n in range(9):
            queue.add(str(n))
        await asyncio.sleep(10)
    assert seen.most == 3
    assert seen.times() == [0, 0, 0, 1, 1, 1, 2, 2, 2]


async def test_a_number_asks_for_the_next_pass() -> None:
    queue, seen = Queue[str](Metrics()), Recorder(outcomes=[30, 5.5, None])
    async with running(queue, seen):
        queue.add("a")
        await asyncio.sleep(100)
    assert seen.times() == [0, 30, 35.5]


async def test_the_earliest_of_several_delays_wins() -> None:
    queue, seen = Queue[str](Metrics()), Recorder()
    async with running(queue, seen):
        queue.add_after("a", 20)
        queue.add_after("a", 7)
        queue.add_after("a", 30)
        await asyncio.sleep(100)
    assert seen.times() == [7]


async def test_an_event_overtakes_a_delay_and_takes_its_place() -> None:
    queue, seen = Queue[str](Metrics()), Recorder()
    async with running(queue, seen):
        queue.add_after("a", 20)
        await asyncio.sleep(3)
        queue.add("a")
        await asyncio.sleep(100)
    assert seen.times() == [3]


async def test_failures_of_a_key_double_its_delay_up_to_the_longest_and_a_success_forgets_them() -> None:
    outcomes: list[float | Exception | None] = [RuntimeError("no")] * 12
    queue, seen = Queue[str](Metrics(), jitter=lambda: 1.0), Recorder(outcomes=[*outcomes, 1.0, RuntimeError("again")])
    async with running(queue, seen):
        queue.add("a")
        await asyncio.sleep(1000)
    gaps = [round(b - a, 3) for a, b in zip(seen.times(), seen.times()[1:], strict=False)]
    assert gaps[:12] == [min(LONGEST_DELAY, FIRST_DELAY * 2**n) for n in range(12)]
    assert gaps[12:] == [1.0, FIRST_DELAY], "after a success the back-off begins anew"


async def test_jitter_halves_a_delay_at_most() -> None:
    queue, seen = Queue[str](Metrics(), jitter=lambda: 0.0), Recorder(outcomes=[RuntimeError("no")])
    async with running(queue, seen):
        queue.add("a")
        await asyncio.sleep(10)
    assert seen.times() == [0, FIRST_DELAY / 2]


async def test_a_failing_key_does_not_hold_up_others() -> None:
    queue, seen = Queue[str](Metrics()), Recorder(outcomes=[RuntimeError("no")])
    async with running(queue, seen):
        queue.add("broken")
        queue.add("sound")
        await asyncio.sleep(0.01)
    assert [key for _, key in seen.started] == ["broken", "sound"]


async def test_metrics_tell_depth_retries_and_results() -> None:
    metrics = Metrics()
    queue, seen = Queue[str](metrics), Recorder(outcomes=[RuntimeError("no"), None])
    queue.add("a")
    queue.add("b")
    assert metrics.registry.get_sample_value("distillery_workqueue_depth") == 2
    async with running(queue, seen):
        await asyncio.sleep(10)
    value = metrics.registry.get_sample_value
    assert value("distillery_workqueue_depth") == 0
    assert value("distillery_workqueue_retries_total") == 1
    assert value("distillery_reconcile_total", {"result": "error"}) == 1
    assert value("distillery_reconcile_total", {"result": "done"}) == 2

"""What was found out a moment ago is not looked up again, and never by two at a time."""

import asyncio
from functools import partial

import pytest

from distillery.gateway.errors import Refused
from distillery.gateway.recent import Recent


class Source:
    def __init__(self) -> None:
        self.asked, self.time = 0, 0.0
        self.fails: Exception | None = None

    def clock(self) -> float:
        return self.time

    async def load(self, key: str) -> str:
        self.asked += 1
        await asyncio.sleep(0)
        if self.fails is not None:
            raise self.fails
        return f"{key}{self.asked}"


async def test_one_look_serves_all_who_ask_at_once_and_lasts() -> None:
    source = Source()
    recent = Recent(source.clock, 5)
    assert set(await asyncio.gather(*(recent.get("a", partial(source.load, "a")) for _ in range(10)))) == {"a1"}
    source.time = 4.9
    assert await recent.get("a", partial(source.load, "a")) == "a1"
    source.time = 5.0
    assert await recent.get("a", partial(source.load, "a")) == "a2"
    recent.forget("a")
    assert await recent.get("a", partial(source.load, "a")) == "a3"


async def test_who_asked_first_may_leave() -> None:
    source = Source()
    recent = Recent(source.clock, 5)
    first, second = (
        asyncio.create_task(recent.get("a", partial(source.load, "a"))),
        asyncio.create_task(recent.get("a", partial(source.load, "a"))),
    )
    await asyncio.sleep(0)
    first.cancel()
    assert await second == "a1"


async def test_refusals_last_and_failures_do_not() -> None:
    source = Source()
    recent = Recent(source.clock, 5)
    for failure, asked in ((Refused(403, "No", "no"), 1), (OSError("down"), 2)):
        source.asked, source.fails = 0, failure
        for _ in range(2):
            with pytest.raises(type(failure)):
                await recent.get(str(failure), partial(source.load, str(failure)))
        assert source.asked == asked


async def test_the_oldest_are_forgotten() -> None:
    source = Source()
    recent = Recent(source.clock, 5, capacity=2)
    for key in "abc":
        await recent.get(key, partial(source.load, key))
    assert (recent.peek("a"), recent.peek("c")) == (None, "c3")

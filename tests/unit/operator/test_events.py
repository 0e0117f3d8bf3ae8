"""Warnings are read once for all who ask."""

from __future__ import annotations

import asyncio
from typing import Any, cast

import pytest

from distillery.cluster import Body, Unavailable
from distillery.cluster.events import Warnings
from distillery.cluster.session import PAGE, Session

pytestmark = pytest.mark.looptime


def event(uid: str, message: str) -> Body:
    about = {"kind": "Job", "uid": uid}
    return {"metadata": {"name": "e"}, "type": "Warning", "reason": "FailedCreate", "message": message, "involvedObject": about}


class Server:
    """Lists the events of each namespace, two a page; a page takes so many seconds."""

    def __init__(self, **events: list[Body]) -> None:
        self.events, self.seconds, self.down = events, 0.1, False
        self.asked: list[tuple[str, dict[str, Any]]] = []

    async def get(self, path: str, **query: Any) -> Body:
        self.asked.append((path, query))
        await asyncio.sleep(self.seconds)
        if self.down:
            raise Unavailable("refused")
        begin = int(query.get("continue", 0))
        found = self.events[path.split("/")[-2]]
        more = {"continue": str(begin + 2)} if len(found) > begin + 2 else {}
        return {"items": found[begin : begin + 2], "metadata": more}


def warnings(server: Server) -> Warnings:
    return Warnings(cast(Session, server), asyncio.get_running_loop().time)


async def told(reader: Warnings, uid: str, namespace: str = "nlp") -> list[str]:
    return [found["message"] for found in await reader.about(namespace, uid)]


async def test_many_who_ask_at_once_cause_one_reading_of_all_pages() -> None:
    server = Server(nlp=[event("a", "first"), event("b", "second"), event("a", "third")])
    reader = warnings(server)
    assert await asyncio.gather(*(told(reader, uid) for uid in "abc" * 20)) == [["first", "third"], ["second"], []] * 20
    first = {"fieldSelector": "type=Warning", "limit": PAGE}
    assert server.asked == [("/api/v1/namespaces/nlp/events", first), ("/api/v1/namespaces/nlp/events", first | {"continue": "2"})]


async def test_only_what_is_told_of_is_kept() -> None:
    (found,) = await warnings(Server(nlp=[event("a", "first")])).about("nlp", "a")
    assert found == {"type": "Warning", "reason": "FailedCreate", "message": "first"}


@pytest.mark.parametrize(("seconds", "kept"), [(0.1, 5), (2, 20)])
async def test_a_reading_is_used_for_ten_times_as_long_as_it_took_and_for_some_seconds(seconds: float, kept: float) -> None:
    server = Server(nlp=[event("a", "first")])
    server.seconds = seconds
    reader = warnings(server)
    assert await told(reader, "a") == ["first"]
    server.events["nlp"] = [event("a", "second")]
    await asyncio.sleep(kept - 0.01)
    assert await told(reader, "a") == ["first"]
    await asyncio.sleep(0.02)
    assert await told(reader, "a") == ["second"]


async def test_namespaces_are_read_apart_and_do_not_wait_for_each_other() -> None:
    reader = warnings(Server(nlp=[event("a", "here")], vision=[event("a", "there")]))
    started = asyncio.get_running_loop().time()
    assert await asyncio.gather(told(reader, "a", "nlp"), told(reader, "a", "vision")) == [["here"], ["there"]]
    assert asyncio.get_running_loop().time() - started == pytest.approx(0.1)


async def test_a_failure_is_told_and_not_kept() -> None:
    server = Server(nlp=[event("a", "first")])
    server.down = True
    reader = warnings(server)
    with pytest.raises(Unavailable):
        await told(reader, "a")
    server.down = False
    assert await told(reader, "a") == ["first"]


async def test_who_goes_away_takes_nobody_with_him() -> None:
    reader = warnings(Server(nlp=[event("a", "first")]))
    one, other = (asyncio.create_task(told(reader, "a")) for _ in range(2))
    await asyncio.sleep(0.05)
    one.cancel()
    assert await other == ["first"]

"""Kopf as a source of keys: what is watched, what becomes of it, and what happens when a stream breaks. The API server is a double that
serves lists and watch streams."""

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from distillery import handlers
from distillery.cluster import BudgetKey, Key
from distillery.news import News

OURS, JOBS, PODS = "/apis/distillery.dev/v1alpha1", "/apis/batch/v1", "/api/v1"
KINDS = {
    OURS: {"distillationjobs": "DistillationJob", "teacherbudgets": "TeacherBudget"},
    JOBS: {"jobs": "Job"},
    PODS: {"pods": "Pod"},
}
WATCHED = {f"{JOBS}/jobs", f"{OURS}/distillationjobs", f"{OURS}/teacherbudgets"}
VERBS = ["list", "watch", "patch"]


class Streams:
    """Lists of objects by path, and the open watch streams, into which tests put lines."""

    def __init__(self) -> None:
        self.objects: dict[str, list[dict[str, Any]]] = {}
        self.open: dict[str, asyncio.Queue[dict[str, Any]]] = {}
        self.requests: list[web.Request] = []
        self.opened = asyncio.Event()

    async def answer(self, request: web.Request) -> web.StreamResponse:
        path, base = request.path, request.path.rsplit("/", 1)[0]
        if path == "/api":
            return web.json_response({"versions": ["v1"]})
        if path == "/apis":
            groups = [tuple(prefix.split("/")[2:]) for prefix in (OURS, JOBS)]
            versions = [(group, {"version": version, "groupVersion": f"{group}/{version}"}) for group, version in groups]
            return web.json_response({"groups": [{"name": g, "versions": [v], "preferredVersion": v} for g, v in versions]})
        if path in KINDS:
            named = [*KINDS[path].items(), *[("namespaces", "Namespace")] * (path == PODS)]
            found = [{"name": n, "singularName": "", "kind": k, "namespaced": k != "Namespace", "verbs": VERBS} for n, k in named]
            return web.json_response({"resources": found})
        self.requests.append(request)
        if "watch" not in request.query:
            kind, items = KINDS[base.split("/namespaces/")[0]][path.rsplit("/", 1)[1]], self.objects.get(path, [])
            return web.json_response({"kind": f"{kind}List", "metadata": {"resourceVersion": "7"}, "items": items})
        response = web.StreamResponse()
        await response.prepare(request)
        lines = self.open[path] = asyncio.Queue()
        self.opened.set()
        while line := await lines.get():
            await response.write(json.dumps(line).encode() + b"\n")
        return response

    async def say(self, path: str, type_: str, body: dict[str, Any]) -> None:
        """Put an event into the open watch of a path, as soon as there is one."""
        while path not in self.open:
            self.opened.clear()
            await self.opened.wait()
        self.open[path].put_nowait({"type": type_, "object": body})

    def lists_of(self, path: str) -> list[web.Request]:
        return [r for r in self.requests if r.path == path and "watch" not in r.query]


def thing(name: str, namespace: str = "nlp", job: str | None = None) -> dict[str, Any]:
    labels = {"distillery.dev/job": job} if job else {}
    return {"metadata": {"name": name, "namespace": namespace, "uid": name, "resourceVersion": "8", "labels": labels}}


@pytest.fixture
async def streams(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Streams]:
    found, app = Streams(), web.Application()
    app.router.add_route("*", "/{path:.*}", found.answer)
    async with TestServer(app) as server:
        config = {
            "current-context": "c",
            "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}],
            "clusters": [{"name": "c", "cluster": {"server": str(server.make_url("/")).rstrip("/")}}],
            "users": [{"name": "u", "user": {"token": "t"}}],
        }
        (tmp_path / "config").write_text(json.dumps(config))
        monkeypatch.setenv("KUBECONFIG", str(tmp_path / "config"))
        yield found


class Keys:
    """What the handlers added, in order."""

    def __init__(self) -> None:
        self.added: asyncio.Queue[Key | BudgetKey] = asyncio.Queue()
        self.first: list[str] = []

    def add(self, key: Key | BudgetKey, first: bool = False) -> None:
        self.added.put_nowait(key)
        if first:
            self.first.append(str(key))

    async def next(self, count: int = 1) -> list[str]:
        """The next keys, sorted; TimeoutError after 10 seconds."""
        async with asyncio.timeout(10):
            return sorted([str(await self.added.get()) for _ in range(count)])


@asynccontextmanager
async def watching(*namespaces: str) -> AsyncIterator[tuple[Keys, asyncio.Task[None]]]:
    """Kopf at work. (In the test's own task: when it ends, Kopf cancels every task that is younger than itself.)"""
    keys = Keys()
    task = asyncio.create_task(handlers.watch(keys.add, News(), namespaces, lambda: None))
    try:
        yield keys, task
    finally:
        task.cancel()
        await asyncio.wait([task])


async def test_what_is_there_and_what_comes_becomes_keys(streams: Streams) -> None:
    streams.objects[f"{OURS}/distillationjobs"] = [thing("old")]
    async with watching() as (keys, _):
        assert await keys.next() == ["nlp/old"]
        await streams.say(f"{OURS}/distillationjobs", "ADDED", thing("new", "vision"))
        assert await keys.next() == ["vision/new"]
        await streams.say(f"{JOBS}/jobs", "MODIFIED", thing("new-train-0", "vision", job="new"))
        assert await keys.next() == ["vision/new"]
        await streams.say(f"{JOBS}/jobs", "ADDED", thing("a job without our label"))
        await streams.say(f"{JOBS}/jobs", "DELETED", thing("old-train-0", job="old"))
        assert await keys.next() == ["nlp/old"]
        assert keys.added.empty()
        assert keys.first == ["vision/new", "nlp/old"], "what Jobs tell is what running jobs wait for"


async def test_what_tells_nothing_becomes_no_key(streams: Streams) -> None:
    async with watching() as (keys, _):
        for type_, job in (("ADDED", "old"), ("MODIFIED", "old"), ("MODIFIED", "new")):
            await streams.say(f"{JOBS}/jobs", type_, thing(f"{job}-train-0", job=job))
        assert await keys.next(2) == ["nlp/new", "nlp/old"]
        assert keys.added.empty()


async def test_a_budget_is_a_key_of_its_own(streams: Streams) -> None:
    async with watching() as (keys, _):
        await streams.say(f"{OURS}/teacherbudgets", "ADDED", thing("team"))
        await streams.say(f"{OURS}/distillationjobs", "ADDED", thing("team"))
        async with asyncio.timeout(10):
            assert {await keys.added.get(), await keys.added.get()} == {BudgetKey("nlp", "team"), Key("nlp", "team")}


async def test_children_are_selected_by_the_server_and_nothing_is_ever_written(streams: Streams) -> None:
    async with watching() as (keys, _):
        for path in WATCHED:
            await streams.say(path, "MODIFIED", thing("old", job="old"))
        await keys.next(3)
    assert {request.path for request in streams.requests} == WATCHED, "pods are not watched"
    for request in streams.requests:
        selector = request.query.get("labelSelector")
        assert selector == (None if request.path.startswith(OURS) else "app.kubernetes.io/managed-by=distillery")
        assert request.method == "GET"
        assert "watch" in request.query or request.query["limit"] == "500"


async def test_an_expired_stream_is_listed_again(streams: Streams) -> None:
    path = f"{OURS}/distillationjobs"
    streams.objects[path] = [thing("old")]
    async with watching() as (keys, _):
        await keys.next()
        streams.objects[path].append(thing("missed"))
        await streams.say(path, "ERROR", {"kind": "Status", "code": 410, "message": "too old resource version"})
        assert await keys.next(2) == ["nlp/missed", "nlp/old"]
        assert len(streams.lists_of(path)) == 2


async def test_any_other_error_of_a_stream_ends_the_watch_so_that_the_process_starts_afresh(streams: Streams) -> None:
    async with watching() as (_, task):
        await streams.say(f"{OURS}/distillationjobs", "ERROR", {"kind": "Status", "code": 500, "message": "etcd"})
        with pytest.raises(Exception, match="etcd"):
            await asyncio.wait_for(task, 20)


async def test_named_namespaces_are_watched_alone(streams: Streams) -> None:
    streams.objects = {f"{OURS}/namespaces/{n}/distillationjobs": [thing("a", n)] for n in ("nlp", "vision", "other")}
    async with watching("nlp", "vision") as (keys, _):
        assert await keys.next(2) == ["nlp/a", "vision/a"]
    assert {request.path.split("/namespaces/")[1].split("/")[0] for request in streams.requests} == {"nlp", "vision"}


async def test_a_user_without_a_name_can_watch(streams: Streams, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_name() -> str:
        raise KeyError("getpwuid(): uid not found: 65532")

    monkeypatch.setattr("getpass.getuser", no_name)
    streams.objects[f"{OURS}/distillationjobs"] = [thing("old")]
    async with watching() as (keys, _):
        assert await keys.next() == ["nlp/old"]


def test_attempts_to_reach_the_api_server_never_end() -> None:
    delays: Iterator[float] = iter(handlers.Backoffs(jitter=lambda: 1.0))
    assert list(islice(delays, 8)) == [1, 2, 4, 8, 16, 30, 30, 30]
    assert next(iter(handlers.Backoffs(jitter=lambda: 0.0))) == 0.5

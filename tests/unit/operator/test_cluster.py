"""Requests to the API server as they go over the wire, and its answers as the errors that reconcile knows."""

from collections.abc import AsyncIterator
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from kubernetes.aio.client import Configuration

from distillery.cluster import (
    AlreadyExists,
    ClusterError,
    Conflict,
    Forbidden,
    Invalid,
    LeadershipLost,
    NotFound,
    Unavailable,
)
from distillery.cluster.api_server import ApiServer
from distillery.cluster.session import Session
from distillery.metrics import Metrics

OURS = "/apis/distillery.dev/v1alpha1"


class Wire:
    """A server that remembers requests and gives the answers that a test puts in `answers` (else an empty list)."""

    def __init__(self) -> None:
        self.requests: list[dict[str, Any]] = []
        self.answers: list[tuple[int, Any]] = []
        self.text_kind = "text/html"

    async def answer(self, request: web.Request) -> web.Response:
        text = await request.text()
        self.requests.append(
            {
                "line": f"{request.method} {request.path}",
                "query": dict(request.query),
                "body": await request.json() if text else None,
                "type": request.content_type,
            }
        )
        status, body = self.answers.pop(0) if self.answers else (200, {"items": [], "metadata": {}})
        if isinstance(body, str):
            return web.Response(text=body, status=status, content_type=self.text_kind)
        return web.json_response(body, status=status)


@pytest.fixture
def wire() -> Wire:
    return Wire()


@pytest.fixture
async def session(wire: Wire) -> AsyncIterator[Session]:
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", wire.answer)
    async with TestServer(app) as server:
        found = Session(Configuration(host=str(server.make_url("")).rstrip("/")), Metrics())
        yield found
        await found.close()


def refusal(code: int, message: str) -> tuple[int, dict[str, Any]]:
    return code, {"kind": "Status", "status": "Failure", "code": code, "message": message}


@pytest.mark.parametrize(
    ("code", "error"),
    [
        (400, Invalid),
        (401, Unavailable),
        (403, Forbidden),
        (404, NotFound),
        (409, Conflict),
        (422, Invalid),
        (429, Unavailable),
        (500, Unavailable),
        (503, Unavailable),
    ],
)
async def test_statuses_become_errors_with_the_servers_words(wire: Wire, session: Session, code: int, error: type[ClusterError]) -> None:
    wire.answers = [refusal(code, "because of the server")]
    with pytest.raises(error, match="because of the server"):
        await ApiServer(session).get_job("nlp", "arith")


async def test_an_answer_of_a_proxy_is_kept_as_text(wire: Wire, session: Session) -> None:
    wire.answers = [(502, "<html>bad gateway</html>")]
    with pytest.raises(Unavailable, match="bad gateway"):
        await ApiServer(session).get_job("nlp", "arith")


@pytest.mark.parametrize("kind", ["text/plain", "application/json"])
async def test_an_answer_that_is_not_json_is_unavailable(wire: Wire, session: Session, kind: str) -> None:
    wire.answers, wire.text_kind = [(200, "hello")], kind
    with pytest.raises(Unavailable):
        await ApiServer(session).get_job("nlp", "arith")


async def test_no_server_is_unavailable() -> None:
    session = Session(Configuration(host="http://127.0.0.1:1"), Metrics())
    with pytest.raises(Unavailable, match="get /apis/distillery"):
        await ApiServer(session).get_job("nlp", "arith")
    await session.close()


async def test_a_conflict_on_create_means_that_it_exists(wire: Wire, session: Session) -> None:
    wire.answers = [refusal(409, 'jobs.batch "a" already exists')]
    with pytest.raises(AlreadyExists):
        await ApiServer(session).create_job({"metadata": {"name": "a", "namespace": "nlp"}})
    assert wire.requests[0]["line"] == "POST /apis/batch/v1/namespaces/nlp/jobs"


async def test_an_event_that_was_told_is_told(wire: Wire, session: Session) -> None:
    wire.answers = [refusal(409, "already exists")]
    await ApiServer(session).create_event({"metadata": {"name": "a", "namespace": "nlp"}})
    assert wire.requests[0]["line"] == "POST /apis/events.k8s.io/v1/namespaces/nlp/events"


async def test_status_is_merge_patched_at_a_resource_version(wire: Wire, session: Session) -> None:
    await ApiServer(session).patch_status("nlp", "arith", "41", {"phase": "Pending", "message": None})
    assert wire.requests == [
        {
            "line": f"PATCH {OURS}/namespaces/nlp/distillationjobs/arith/status",
            "query": {},
            "body": {"metadata": {"resourceVersion": "41"}, "status": {"phase": "Pending", "message": None}},
            "type": "application/merge-patch+json",
        }
    ]


async def test_a_stage_job_is_deleted_in_the_foreground_by_uid(wire: Wire, session: Session) -> None:
    await ApiServer(session).delete_job("nlp", "arith-train", "u1")
    assert wire.requests[0]["line"] == "DELETE /apis/batch/v1/namespaces/nlp/jobs/arith-train"
    assert wire.requests[0]["body"] == {"preconditions": {"uid": "u1"}, "propagationPolicy": "Foreground"}


async def test_children_are_the_labelled_jobs_with_our_uid_as_controller_and_the_pods_with_our_uid_label(
    wire: Wire, session: Session
) -> None:
    def job(name: str, uid: str, **owner: Any) -> dict[str, Any]:
        return {"metadata": {"name": name, "ownerReferences": [{"uid": uid, **owner}]}}

    ours = job("ours", "u1", controller=True)
    jobs = [ours, job("of a namesake", "u0", controller=True), job("not controlled", "u1"), {"metadata": {"name": "an orphan"}}]
    lists = {"jobs": {"items": jobs}, "pods": {"items": [{"metadata": {"name": "pod"}}]}}

    async def answer(request: web.Request) -> web.Response:
        wire.requests.append({"query": dict(request.query), "path": request.path})
        return web.json_response(lists[request.path.rsplit("/", 1)[1]])

    app = web.Application()
    app.router.add_route("*", "/{path:.*}", answer)
    async with TestServer(app) as server:
        session = Session(Configuration(host=str(server.make_url("")).rstrip("/")), Metrics())
        found = await ApiServer(session).children("nlp", "arith", "u1")
        await session.close()
    assert found.jobs == [ours]
    assert [pod["metadata"]["name"] for pod in found.pods] == ["pod"]
    assert {r["path"]: r["query"]["labelSelector"] for r in wire.requests} == {
        "/apis/batch/v1/namespaces/nlp/jobs": "distillery.dev/job=arith",
        "/api/v1/namespaces/nlp/pods": "distillery.dev/job=arith,distillery.dev/uid=u1",
    }


async def test_jobs_are_listed_page_by_page_in_the_watched_namespaces(wire: Wire, session: Session) -> None:
    def page(name: str, more: str = "") -> tuple[int, Any]:
        return 200, {"items": [{"metadata": {"name": name}}], "metadata": {"continue": more}}

    wire.answers = [page("a", "next"), page("b"), page("c")]
    names = [job["metadata"]["name"] async for job in ApiServer(session, ("x", "y")).list_jobs()]
    assert names == ["a", "b", "c"]
    assert [(r["line"], r["query"].get("continue")) for r in wire.requests] == [
        (f"GET {OURS}/namespaces/x/distillationjobs", None),
        (f"GET {OURS}/namespaces/x/distillationjobs", "next"),
        (f"GET {OURS}/namespaces/y/distillationjobs", None),
    ]


async def test_all_namespaces_are_one_list(wire: Wire, session: Session) -> None:
    assert [job async for job in ApiServer(session).list_jobs()] == []
    assert wire.requests[0]["line"] == f"GET {OURS}/distillationjobs"


async def test_nothing_is_written_once_leadership_is_lost(wire: Wire, session: Session) -> None:
    def lost() -> None:
        raise LeadershipLost("no longer")

    server, body = ApiServer(session, guard=lost), {"metadata": {"name": "a", "namespace": "nlp"}}
    for write in (
        server.create_config_map(body),
        server.create_job(body),
        server.create_event(body),
        server.delete_job("nlp", "a", "u"),
        server.delete_distillation_job("nlp", "a", "u"),
        server.patch_status("nlp", "a", "1", {}),
    ):
        with pytest.raises(LeadershipLost):
            await write
    assert wire.requests == []


async def test_requests_are_counted_by_verb_and_code_only(wire: Wire) -> None:
    metrics = Metrics()
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", wire.answer)
    wire.answers = [refusal(404, "no"), (200, {})]
    async with TestServer(app) as server:
        session = Session(Configuration(host=str(server.make_url("")).rstrip("/")), metrics)
        for name in ("a", "b"):
            try:
                await ApiServer(session).get_job("nlp", name)
            except NotFound:
                continue
        await session.close()
    assert metrics.registry.get_sample_value("distillery_api_requests_total", {"verb": "get", "code": "404"}) == 1
    assert metrics.registry.get_sample_value("distillery_api_requests_total", {"verb": "get", "code": "200"}) == 1


@pytest.mark.parametrize(
    ("answer", "there"),
    [
        ((200, {"resources": [{"name": "distillationjobs"}, {"name": "teacherbudgets"}]}), True),
        ((200, {"resources": [{"name": "distillationjobs"}]}), False),
        (refusal(404, "no"), False),
    ],
)
async def test_whether_the_crds_are_there(wire: Wire, session: Session, answer: tuple[int, Any], there: bool) -> None:
    wire.answers = [answer]
    assert await ApiServer(session).serves_our_kinds() is there

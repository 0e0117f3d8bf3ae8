"""The same cases on FakeCluster and on a real API server: what tests/crash proves on the one holds on the other.

The job is suspended and its batch Job does not say which run it is, so an operator on the cluster writes a status and nothing else.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, TypeVar

import pytest
from kubernetes.aio import config
from kubernetes.aio.client import Configuration
from tests.conftest import Cluster as Kind
from tests.crash.fake_cluster import FakeCluster
from tests.crash.specs import BUDGET, MINIMAL

from distillery.cluster import AlreadyExists, Body, Cluster, Conflict, Key, NotFound
from distillery.cluster.api_server import ApiServer
from distillery.cluster.session import Session
from distillery.manifests import config_map, event, stage_job
from distillery.metrics import Metrics
from distillery.observe import DistillationJob, job_from
from distillery.plan import Plan, make_plan
from distillery.runs import RUN_ANNOTATION
from distillery.settings import Settings

SPEC = MINIMAL | {"suspend": True}
#: The collector and an operator on the cluster get so many seconds.
PATIENCE = 60.0


@dataclass(frozen=True)
class Server:
    """An API server, and a user who edits the job's spec."""

    cluster: Cluster
    key: Key
    edit: Callable[[Body], None]
    events: Callable[[], list[Body]]
    """All of the job's namespace."""

    async def job(self) -> DistillationJob:
        """The job as it is."""
        return job_from(await self.cluster.get_job(*self.key))

    async def patch(self, status: Body) -> DistillationJob:
        """Patch the status; another operator may come in between."""
        return await eventually(lambda: self._patched(status))

    async def _patched(self, status: Body) -> DistillationJob | None:
        before = await self.job()
        try:
            return job_from(await self.cluster.patch_status(*self.key, before.resource_version, status))
        except Conflict:
            return None


T = TypeVar("T")


async def eventually(look: Callable[[], Awaitable[T | None]]) -> T:
    """The first value that is there; TimeoutError after PATIENCE."""
    async with asyncio.timeout(PATIENCE):
        while (found := await look()) is None:
            await asyncio.sleep(0.2)
    return found


async def gone(read: Awaitable[Body]) -> bool | None:
    """True if the object is not there."""
    try:
        await read
    except NotFound:
        return True
    return None


@pytest.fixture(params=["fake", pytest.param("real", marks=pytest.mark.cluster)])
async def server(request: pytest.FixtureRequest) -> AsyncIterator[Server]:
    """A suspended job on a server of either kind."""
    if request.param == "fake":
        yield _fake()
        return
    kind: Kind = request.getfixturevalue("cluster")
    namespace: str = request.getfixturevalue("namespace")
    configuration = Configuration()
    await config.load_kube_config(config_file=str(kind.kubeconfig), client_configuration=configuration)
    session = Session(configuration, Metrics())
    for body in (_body(namespace), _budget(namespace)):
        kind.kubectl("apply", "-f", "-", stdin=json.dumps(body))

    def edit(change: Body) -> None:
        kind.kubectl("-n", namespace, "patch", "dj", "tiny", "--type=merge", "-p", json.dumps({"spec": change}))

    def events() -> list[Body]:
        listed: list[Body] = json.loads(kind.kubectl("-n", namespace, "get", "events.events.k8s.io", "-o", "json"))["items"]
        return listed

    try:
        yield Server(ApiServer(session), Key(namespace, "tiny"), edit, events)
    finally:
        await session.close()


def _fake() -> Server:
    fake = FakeCluster(lambda: datetime.now(UTC))
    fake.create(_body("team-a"))
    fake.create(_budget("team-a"))
    key = Key("team-a", "tiny")

    def edit(change: Body) -> None:
        job = fake.get("DistillationJob", *key)
        fake.put({**job, "spec": {**job["spec"], **change}})

    return Server(
        fake, key, edit, lambda: [body for (kind, where, _), body in fake.objects.items() if (kind, where) == ("Event", key.namespace)]
    )


def _body(namespace: str) -> Body:
    meta = {"name": "tiny", "namespace": namespace}
    return {"apiVersion": "distillery.dev/v1alpha1", "kind": "DistillationJob", "metadata": meta, "spec": SPEC}


def _budget(namespace: str) -> Body:
    meta = {"name": "team", "namespace": namespace}
    return {"apiVersion": "distillery.dev/v1alpha1", "kind": "TeacherBudget", "metadata": meta, "spec": BUDGET}


def children(job: DistillationJob) -> tuple[Body, Body]:
    """A ConfigMap, and a batch Job that starts no pod."""
    plan: Plan = make_plan(job.name, job.spec, Settings(trainer_image="example/none:1"))
    assert plan.spec is not None
    body = stage_job(job, plan, plan.spec, plan.stages[0], "example/none:1", {"preflight": plan.spec_hash}, 1)
    del body["metadata"]["annotations"][RUN_ANNOTATION]
    body["spec"]["suspend"] = True
    return config_map(job, plan, plan.spec), body


async def test_what_is_not_there_is_not_found(server: Server) -> None:
    with pytest.raises(NotFound):
        await server.cluster.get_job(server.key.namespace, "other")
    for kind in ("ConfigMap", "Job"):
        with pytest.raises(NotFound):
            await server.cluster.get_child(kind, server.key.namespace, "other")
    with pytest.raises(NotFound):
        await server.cluster.delete_job(server.key.namespace, "other", "uid")
    with pytest.raises(NotFound):
        await server.cluster.get_budget(server.key.namespace, "other")


async def test_children_are_created_once_and_listed_by_owner(server: Server) -> None:
    job = await server.job()
    frozen, batch = children(job)
    await server.cluster.create_config_map(frozen)
    with pytest.raises(AlreadyExists):
        await server.cluster.create_config_map(frozen)
    created = await server.cluster.create_job(batch)
    with pytest.raises(AlreadyExists):
        await server.cluster.create_job(batch)
    name = batch["metadata"]["name"]
    assert (await server.cluster.get_child("Job", job.namespace, name))["metadata"]["uid"] == created["metadata"]["uid"]
    assert [found["metadata"]["name"] for found in (await server.cluster.children(job.namespace, job.name, job.uid)).jobs] == [name]
    assert (await server.cluster.children(job.namespace, job.name, "another-uid")).jobs == []
    by_name = await server.cluster.children(job.namespace, job.name, job.uid, [name, "not-there"])
    assert [found["metadata"]["name"] for found in by_name.jobs] == [name]
    assert (await server.cluster.children(job.namespace, job.name, "another-uid", [name])).jobs == []


async def test_a_delete_needs_the_uid_and_ends_in_nothing(server: Server) -> None:
    job = await server.job()
    _, batch = children(job)
    created = await server.cluster.create_job(batch)
    name, uid = created["metadata"]["name"], created["metadata"]["uid"]
    with pytest.raises(Conflict):
        await server.cluster.delete_job(job.namespace, name, "another-uid")
    await server.cluster.delete_job(job.namespace, name, uid)
    await eventually(lambda: gone(server.cluster.get_child("Job", job.namespace, name)))
    with pytest.raises(NotFound):
        await server.cluster.delete_job(job.namespace, name, uid)


async def test_a_status_patch_needs_the_version_and_is_a_merge(server: Server) -> None:
    old = await server.job()
    await server.patch({"specHash": "a" * 64, "stages": [{"name": "one", "state": "Pending"}, {"name": "two", "state": "Pending"}]})
    with pytest.raises(Conflict):
        await server.cluster.patch_status(*server.key, old.resource_version, {"specHash": "b" * 64})
    new = await server.patch({"specHash": None, "configMap": "tiny-1", "stages": [{"name": "two", "state": "Running"}]})
    assert (new.status.spec_hash, new.status.config_map) == (None, "tiny-1")
    assert [(stage.name, stage.state) for stage in new.status.stages] == [("two", "Running")]
    assert new.generation == old.generation
    assert new.resource_version != old.resource_version


async def test_the_status_of_a_budget_is_patched_likewise(server: Server) -> None:
    namespace = server.key.namespace

    async def patched() -> bool | None:
        version = (await server.cluster.get_budget(namespace, "team"))["metadata"]["resourceVersion"]
        try:
            await server.cluster.patch_budget_status(namespace, "team", version, {"saved": "1.00"})
        except Conflict:
            return None  # an operator on the cluster came in between
        with pytest.raises(Conflict):
            await server.cluster.patch_budget_status(namespace, "team", version, {"saved": "2.00"})
        return True

    await eventually(patched)


async def test_lists_are_of_all_namespaces_or_of_one(server: Server) -> None:
    namespace = server.key.namespace
    budgets = [(b["metadata"]["namespace"], b["metadata"]["name"]) async for b in server.cluster.list_budgets()]
    assert (namespace, "team") in budgets
    here = [job["metadata"]["name"] async for job in server.cluster.list_jobs(namespace)]
    assert here == ["tiny"]
    assert [job async for job in server.cluster.list_jobs("no-such-namespace")] == []


async def test_an_object_that_no_operator_has_seen_is_not_observed(server: Server) -> None:
    """By the default of the CRD: a tool that waits must not take it for one that is as it should be."""
    namespace = server.key.namespace
    for body in (await server.cluster.get_job(*server.key), await server.cluster.get_budget(namespace, "team")):
        observed = body["status"]["observedGeneration"]
        assert observed in (-1, body["metadata"]["generation"]), "the second where an operator on the cluster was faster"


async def test_an_edit_of_the_spec_is_a_new_generation(server: Server) -> None:
    before = await server.job()
    server.edit({"backoffLimit": 7})
    after = await server.job()
    assert (after.generation, after.spec["backoffLimit"]) == (before.generation + 1, 7)
    server.edit({"backoffLimit": 7})
    assert (await server.job()).generation == after.generation


async def test_the_same_event_is_told_once(server: Server) -> None:
    job = await server.job()
    body = event(job, "Normal", "StageStarted", "created Job x", "train/1", datetime.now(UTC))
    for _ in range(2):
        await server.cluster.create_event(body)
    assert [(e["note"], e["regarding"]["uid"]) for e in server.events() if e["reason"] == "StageStarted"] == [("created Job x", job.uid)]


async def test_what_a_job_owns_goes_with_it(server: Server) -> None:
    job = await server.job()
    frozen, batch = children(job)
    await server.cluster.create_config_map(frozen)
    await server.cluster.create_job(batch)
    with pytest.raises(Conflict):
        await server.cluster.delete_distillation_job(*server.key, "another-uid")
    await server.cluster.delete_distillation_job(*server.key, job.uid)
    await eventually(lambda: gone(server.cluster.get_job(*server.key)))
    for kind, body in (("Job", batch), ("ConfigMap", frozen)):
        name: Any = body["metadata"]["name"]
        await eventually(lambda kind=kind, name=name: gone(server.cluster.get_child(kind, job.namespace, name)))  # type: ignore[misc]

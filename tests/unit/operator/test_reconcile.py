"""What a pass reads, and what it makes of the API server's answers."""

from __future__ import annotations

from typing import Any

import pytest
from tests.crash.ends import End
from tests.crash.specs import MINIMAL, OUTPUT
from tests.crash.world import KEY, World

from distillery.api.result import Progress
from distillery.cluster import Body, Children, Conflict, Forbidden, Invalid, NotFound, Unavailable
from distillery.decide.situation import named_children
from distillery.observe import job_from
from distillery.plan import child_name, make_plan
from distillery.reconcile import difference
from distillery.settings import Settings


@pytest.mark.parametrize(
    ("old", "new", "patch"),
    [
        ({"a": 1}, {"a": 1}, {}),
        ({"a": 1}, {"a": 2}, {"a": 2}),
        ({"a": 1, "b": 2}, {"b": 2}, {"a": None}),
        ({}, {"a": {"b": 1}}, {"a": {"b": 1}}),
        ({"a": {"b": 1, "c": 2}}, {"a": {"b": 1}}, {"a": {"c": None}}),
        ({"a": {"b": 1}}, {"a": {"b": 1}}, {}),
        ({"a": [1, 2]}, {"a": [1]}, {"a": [1]}),
        ({}, {"a": {}}, {"a": {}}),
    ],
)
def test_the_patch_is_the_difference(old: Body, new: Body, patch: Body) -> None:
    assert difference(old, new) == patch


async def test_an_object_that_is_gone_or_going_is_left_alone() -> None:
    world = World()
    world.cluster.objects.clear()
    assert await world.reconcile() is None
    world = World()
    world.cluster.put({**world.job, "metadata": {**world.job["metadata"], "deletionTimestamp": "2026-01-01T12:00:00Z"}})
    assert await world.reconcile() is None
    assert world.cluster.calls == ["get_job"]


@pytest.mark.parametrize("call", ["get_job", "children", "get_child", "create_job", "patch_status"])
async def test_an_api_server_that_does_not_answer_is_for_the_queue_to_try_again(call: str, monkeypatch: pytest.MonkeyPatch) -> None:
    world = World()

    async def fails(*_: Any) -> Any:
        raise Unavailable("503")

    monkeypatch.setattr(world.cluster, call, fails)
    with pytest.raises(Unavailable):
        await world.reconcile()
    assert world.jobs() == []
    monkeypatch.undo()
    await world.run()
    assert world.condition("Succeeded")[0] == "True"


async def test_a_conflict_is_for_the_queue_and_harms_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World()
    patch = world.cluster.patch_status

    async def edited_meanwhile(namespace: str, name: str, version: str, status: Body) -> Body:
        world.edit(backoffLimit=7)
        return await patch(namespace, name, version, status)

    monkeypatch.setattr(world.cluster, "patch_status", edited_meanwhile)
    with pytest.raises(Conflict):
        await world.reconcile()
    monkeypatch.undo()
    await world.run()
    assert world.condition("Succeeded")[0] == "True"


@pytest.mark.parametrize("kind", ["ConfigMap", "Job"])
async def test_a_namesake_of_another_owner_is_named_and_waited_for(kind: str) -> None:
    world = World()
    plan = make_plan(KEY.name, world.job["spec"], world.settings)
    name = plan.config_map if kind == "ConfigMap" else child_name(KEY.name, "preflight", plan.spec_hash, 1)
    foreign = world.cluster.create({"kind": kind, "metadata": {"name": name, "namespace": KEY.namespace}})
    after = await world.settle()
    stage = world.stage("preflight")
    assert (stage["state"], stage["reason"]) == ("Waiting", "NameConflict")
    assert name in stage["message"]
    assert after == 30
    world.cluster.objects.pop((kind, KEY.namespace, foreign["metadata"]["name"]))
    await world.run()
    assert world.condition("Succeeded")[0] == "True"


@pytest.mark.parametrize("error", [Forbidden("quota"), Invalid("note"), NotFound("namespace")])
async def test_events_that_are_refused_do_not_hold_a_job_up(error: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    world = World()

    async def refuses(body: Body) -> None:
        raise error

    monkeypatch.setattr(world.cluster, "create_event", refuses)
    await world.run()
    assert world.condition("Succeeded")[0] == "True"


async def test_children_that_are_gone_already_are_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World(script=lambda stage, run: None)
    await world.run(until=lambda: world.stage("preflight").get("state") == "Running")
    world.edit(cancel=True)

    async def gone(*_: Any) -> None:
        raise NotFound("gone")

    monkeypatch.setattr(world.cluster, "delete_job", gone)
    await world.reconcile()
    await world.reconcile()
    assert world.condition("Succeeded") == ("False", "Cancelled")


async def test_between_two_stages_nothing_is_read_twice_and_jobs_are_read_by_name() -> None:
    world = World()
    asked: list[frozenset[str] | None] = []
    children = world.cluster.children

    async def asks(namespace: str, name: str, uid: str, named: frozenset[str] | None = None) -> Children:
        asked.append(named)
        return await children(namespace, name, uid, named)

    world.cluster.children = asks  # type: ignore[method-assign,assignment]
    await world.settle()
    (first,) = world.jobs()
    world.start_pod(first)
    world.end_pod(first, world.pods(first)[0], End())
    calls = len(world.cluster.calls)
    await world.reconcile()
    told, opened, created = ["create_event", "patch_status"], ["get_child", "create_job"], ["create_event", "patch_status"]
    assert world.cluster.calls[calls:] == ["get_job", "children", *told, *opened, *created]
    assert asked == [None, {first["metadata"]["name"]}]


@pytest.mark.parametrize("change", [{"suspend": True}, {"cancel": True}])
async def test_who_stops_a_job_has_all_its_jobs_read(change: Body) -> None:
    world = World(script=lambda stage, run: None)
    await world.settle()
    job, plan = job_from(world.job), make_plan(KEY.name, world.job["spec"], world.settings)
    assert named_children(job, plan) == {world.stage("preflight")["jobName"]}
    world.edit(**change)
    assert named_children(job_from(world.job), plan) is None


async def test_the_gateway_is_asked_only_about_running_pods() -> None:
    world = World(settings=Settings(gateway_url="http://gateway"), script=lambda stage, run: None)
    asked = []

    async def progress(namespace: str, job: str, uid: str) -> dict[str, Progress]:
        asked.append((namespace, job, uid))
        return {"preflight": Progress(stage="preflight", percentage=40)}

    world.gateway.progress = progress  # type: ignore[method-assign]
    await world.settle()
    assert asked == []
    world.step()
    await world.settle()
    assert asked == [("team-a", "tiny", world.job["metadata"]["uid"])]
    assert world.stage("preflight")["progress"]["percentage"] == 40


async def test_events_are_read_only_about_what_does_not_run_and_does_not_say_why() -> None:
    world = World(script=lambda stage, run: None)
    await world.settle()
    (job,) = world.jobs()
    stuck = world.start_pod(job, {"waiting": {"reason": "ContainerCreating"}})
    meta, about = {"namespace": "team-a", "name": "stuck"}, {"uid": stuck["metadata"]["uid"]}
    words = {"type": "Warning", "reason": "FailedMount", "message": 'configmap "x" not found'}
    world.cluster.create({"kind": "CoreEvent", "metadata": meta, "involvedObject": about, **words})
    await world.settle()
    assert "warnings_of" not in world.cluster.calls
    world.now = world.now.replace(minute=1)
    await world.settle()
    assert world.stage("preflight")["reason"] == "VolumeUnavailable"
    assert world.cluster.calls.count("warnings_of") == 1


async def test_a_pod_that_says_why_it_does_not_run_needs_no_events() -> None:
    world = World(script=lambda stage, run: None)
    await world.settle()
    (job,) = world.jobs()
    world.start_pod(job, {"waiting": {"reason": "CreateContainerConfigError", "message": 'secret "s3" not found'}})
    world.now = world.now.replace(minute=1)
    await world.settle()
    assert world.stage("preflight")["reason"] == "SecretMissing"
    assert "warnings_of" not in world.cluster.calls


async def test_finished_jobs_of_an_earlier_version_are_not_written() -> None:
    world = World(spec=MINIMAL, script=lambda stage, run: End())
    await world.run()
    calls = len(world.cluster.calls)
    world.settings = Settings(trainer_image="trainer:2", gateway_url="http://gateway")
    await world.settle()
    assert world.cluster.calls[calls:] == ["get_job", "children"]
    assert world.status["modelURI"].startswith(OUTPUT)

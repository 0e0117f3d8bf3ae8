"""Money is spent only by a pod that was meant to: of the announced run of the traces stage, while its job, its run and itself go on."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from tests.unit.gateway.conftest import Gate, job

from distillery.cluster import Body
from distillery.gateway.permits import RUN_SECONDS, Permit, permit_of
from distillery.gateway.standing import JOB_SECONDS

DELETED = {"metadata": {"deletionTimestamp": "2026-11-24T12:00:00Z"}}
BUYING = {"budgetClaimed": True, "stages": [{"name": "traces", "state": "Running", "jobName": "arith.traces"}]}


def status(**change: Any) -> Callable[[Gate], None]:
    """The job has another status."""
    return lambda gate: gate.objects.apply({**job(), "status": {**BUYING, **change}})


def spec(**change: Any) -> Callable[[Gate], None]:
    """The job's spec is edited."""
    return lambda gate: gate.objects.apply({**job(), "spec": {**job()["spec"], **change}})


def child(name: str, change: Body | None) -> Callable[[Gate], None]:
    """The batch Job or the Pod is another."""
    return lambda gate: gate.objects.changes.update({name: change})


def ended(kind: str, truth: str) -> list[Body]:
    """Conditions."""
    return [{"type": kind, "status": truth}]


def deleting(gate: Gate) -> None:
    """kubectl delete dj."""
    gate.objects.jobs["nlp", "arith"]["metadata"].update(DELETED["metadata"])


RUN, POD = "arith.traces", "arith.traces.0"
CASES: list[tuple[str, Callable[[Gate], object], str]] = [
    ("the job is being deleted", deleting, "being_deleted"),
    ("the job has succeeded", status(conditions=ended("Succeeded", "True")), "job_ended"),
    ("the job has failed", status(conditions=ended("Succeeded", "False")), "job_ended"),
    ("the job is cancelled", spec(cancel=True), "cancelled"),
    ("the job is suspended", spec(suspend=True), "suspended"),
    ("nothing is set aside", status(budgetClaimed=None), "not_reserved"),
    ("the operator has not seen the job", lambda gate: gate.objects.apply({**job(), "status": {"observedGeneration": -1}}), "not_reserved"),
    ("no run is announced", status(stages=[{"name": "traces", "state": "Waiting"}]), "another_run"),
    ("a later run is announced", status(stages=[{"name": "traces", "jobName": "arith-traces-0123ab-2"}]), "another_run"),
    ("the run is announced for another stage", status(stages=[{"name": "train", "jobName": RUN}]), "another_run"),
    ("the run is complete", child(RUN, {"status": {"conditions": ended("Complete", "True")}}), "run_ended"),
    ("the run has failed", child(RUN, {"status": {"conditions": ended("Failed", "True")}}), "run_ended"),
    ("the run is suspended", child(RUN, {"spec": {"suspend": True}}), "suspended"),
    ("the run is being deleted", child(RUN, DELETED), "being_deleted"),
    ("the run is gone", child(RUN, None), "gone"),
    ("the run is another one of that name", child(RUN, {"metadata": {"uid": "uid-2"}}), "gone"),
    ("the pod has succeeded", child(POD, {"status": {"phase": "Succeeded"}}), "pod_ended"),
    ("the pod has failed", child(POD, {"status": {"phase": "Failed"}}), "pod_ended"),
    ("the pod is being deleted", child(POD, DELETED), "being_deleted"),
    ("the pod is gone", child(POD, None), "gone"),
    ("the pod is another one of that name", child(POD, {"metadata": {"uid": "uid-2"}}), "gone"),
]


@pytest.mark.parametrize(("change", "code"), [pytest.param(change, code, id=name) for name, change, code in CASES])
@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/completions"])
async def test_it_spends_until_that_and_then_no_more(gate: Gate, change: Callable[[Gate], object], code: str, path: str) -> None:
    assert (await gate.ask("1+1?", path=path)).status == 200
    change(gate)
    gate.time.forward(seconds=max(JOB_SECONDS, RUN_SECONDS))
    for text, stream in (("1+1?", False), ("2+2?", False), ("3+3?", True)):
        reply = await gate.ask(text, path=path, stream=stream)
        assert (reply.status, reply.code) == (403, code)
        assert reply.headers["x-should-retry"] == "false"
    assert len(gate.teacher.bodies) == 1, "nor is what was bought given away"
    assert (await gate.usage()).requests == 1


@pytest.mark.parametrize("stage", ["preflight", "curate", "train", "evaluate", "export-q4", "publish"])
async def test_other_stages_may_know_of_the_teacher_and_ask_it_nothing(gate: Gate, stage: str) -> None:
    token = f"pod:nlp/arith/{stage}"
    assert (await gate.request("GET", "/v1/teacher", token)).status == 200
    reply = await gate.ask(token=token)
    assert (reply.status, reply.code) == (403, "not_the_traces_stage")
    assert gate.teacher.bodies == []


async def test_what_costs_nothing_needs_no_permit(gate: Gate) -> None:
    """Preflight asks who the teacher is before anything is claimed."""
    gate.objects.apply({**job(), "status": {}})
    assert (await gate.request("GET", "/v1/teacher", "pod:nlp/arith/preflight")).status == 200


async def test_a_permit_is_looked_at_again_every_few_seconds_and_not_for_each_request(gate: Gate) -> None:
    reads: list[str] = []
    look = gate.objects.get_pod

    async def counted(namespace: str, name: str) -> Body:
        reads.append(name)
        return await look(namespace, name)

    gate.objects.get_pod = counted  # type: ignore[method-assign]
    for number in range(20):
        assert (await gate.ask(f"{number}+1?")).status == 200
    proved = len(reads)
    assert proved == 2, "once for who it is, once for whether it may"
    gate.time.forward(seconds=RUN_SECONDS)
    assert (await gate.ask("again?")).status == 200
    assert len(reads) == proved + 1


@pytest.mark.parametrize("body", [{}, {"spec": None, "status": None}, {"spec": {"suspend": "yes"}, "status": {"stages": [{}]}}])
def test_a_job_of_which_little_is_written_may_not_spend(body: Body) -> None:
    assert isinstance(found := permit_of({"metadata": {"name": "a"}, **body}), Permit)
    assert found.refused is not None

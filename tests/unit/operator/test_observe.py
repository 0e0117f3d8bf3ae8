"""The API's dicts, reduced; what tenants write into them never raises."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Any

import pytest
from tests.unit.operator.objects import NOW

from distillery.observe import frozen_image
from distillery.runs import runs_from

STAMP = "2026-01-01T12:00:00Z"


def job(**meta: Any) -> dict[str, Any]:
    labels = {"distillery.dev/stage": "train"}
    annotations = {"distillery.dev/hash": "ab" * 32, "distillery.dev/run": "2"}
    metadata = {"name": "tiny-train", "uid": "j1", "creationTimestamp": STAMP, "labels": labels, "annotations": annotations, **meta}
    return {"metadata": metadata, "spec": {}, "status": {}}


def pod(state: dict[str, Any], phase: str = "Running", owner: str = "j1", **more: Any) -> dict[str, Any]:
    owners = [{"uid": owner, "controller": True}]
    status = {"phase": phase, "containerStatuses": [{"name": "stage", "state": state}], **more}
    return {"metadata": {"name": "p", "uid": "p1", "creationTimestamp": STAMP, "ownerReferences": owners}, "status": status}


def test_a_run_knows_its_stage_number_and_pods() -> None:
    runs, strays = runs_from([job()], [pod({"running": {}})])
    run = runs["tiny-train"]
    assert (run.stage, run.number, run.hash, run.finished, run.live) == ("train", 2, "ab" * 32, None, True)
    assert [p.running for p in run.pods] == [True]
    assert strays == 0


@pytest.mark.parametrize(
    "meta", [{"labels": None}, {"annotations": None}, {"annotations": {"distillery.dev/hash": "a", "distillery.dev/run": "one"}}]
)
def test_jobs_that_are_not_ours_are_left_out(meta: dict[str, Any]) -> None:
    assert runs_from([job(**meta)], []) == ({}, 0)


def test_pods_without_a_job_are_strays_until_they_end() -> None:
    assert runs_from([], [pod({"running": {}}, owner="gone")]) == ({}, 1)
    assert runs_from([], [pod({"terminated": {"exitCode": 0}}, "Succeeded", owner="gone")]) == ({}, 0)


@pytest.mark.parametrize(
    ("conditions", "expected"),
    [
        ([{"type": "Complete", "status": "True"}], "Complete"),
        ([{"type": "SuccessCriteriaMet", "status": "True"}], None),
        ([{"type": "FailureTarget", "status": "True"}], None),
        ([{"type": "Suspended", "status": "True"}, {"type": "Failed", "status": "True"}], "Failed"),
        ([{"type": "Failed", "status": "False"}], None),
    ],
)
def test_a_job_has_finished_when_its_last_condition_says_so(conditions: list[dict[str, str]], expected: str | None) -> None:
    body = job()
    body["status"] = {"conditions": conditions}
    assert runs_from([body], [])[0]["tiny-train"].finished == expected


@pytest.mark.parametrize(
    ("status", "interrupted"),
    [
        ({"state": {"terminated": {"exitCode": 1}}}, False),
        ({"state": {"terminated": {"exitCode": 137}}}, False),
        ({"state": {"terminated": {"exitCode": 143}}}, True),
        ({"state": {"terminated": {"exitCode": 137}}, "conditions": [{"type": "DisruptionTarget", "status": "True"}]}, True),
        ({"state": {}, "reason": "Evicted", "message": "The node was low on resource: memory."}, True),
    ],
)
def test_what_ends_a_pod_from_outside_is_an_interruption(status: dict[str, Any], interrupted: bool) -> None:
    body = pod(status.pop("state"), "Failed", **status)
    assert runs_from([job()], [body])[0]["tiny-train"].pods[0].interrupted is interrupted


def test_a_run_idles_since_the_last_thing_that_happened() -> None:
    late = pod({"terminated": {"exitCode": 143, "finishedAt": "2026-01-01T13:00:00Z"}}, "Failed")
    assert runs_from([job()], [late])[0]["tiny-train"].idle_since == NOW + timedelta(hours=1)


@pytest.mark.parametrize(
    ("text", "owner", "expected"),
    [
        (json.dumps({"uid": "u1", "trainerImage": "trainer:1"}), "u1", "trainer:1"),
        (json.dumps({"uid": "u1", "trainerImage": "trainer:1"}), "u2", None),
        (json.dumps({"uid": "u2", "trainerImage": "trainer:1"}), "u1", None),
        ("[]", "u1", None),
        ("not JSON", "u1", None),
    ],
)
def test_the_image_comes_from_a_config_map_of_the_job_alone(text: str, owner: str, expected: str | None) -> None:
    body = {"metadata": {"ownerReferences": [{"uid": owner, "controller": True}]}, "data": {"job.json": text}}
    assert frozen_image(body, "u1") == expected

"""R12: the children of a deleted job are collected by Kubernetes alone: no finalizer waits for an operator that may be down."""

import json
import time

import pytest
from tests.conftest import Cluster
from tests.e2e.waiting import eventually
from tests.integration.replica import apply_suspended_job

from distillery.api.kinds import PREFLIGHT
from distillery.api.stages import planned_stages
from distillery.cluster import Body
from distillery.manifests import config_map, stage_job
from distillery.observe import job_from
from distillery.plan import make_plan
from distillery.settings import JOB_LABEL, MANAGED_BY, Settings

pytestmark = pytest.mark.cluster


def without_operator(body: Body) -> Body:
    """The same child, unseen by an operator that runs on this cluster: only its owner is left to end it."""
    for metadata in (body["metadata"], body["spec"]["template"]["metadata"]) if body["kind"] == "Job" else (body["metadata"],):
        metadata["labels"] = {k: v for k, v in metadata["labels"].items() if k not in (JOB_LABEL, MANAGED_BY[0])}
    return body


def test_children_go_with_their_job_within_a_minute(cluster: Cluster, namespace: str) -> None:
    apply_suspended_job(cluster, namespace, "short-lived")
    live = json.loads(cluster.kubectl("-n", namespace, "get", "dj", "short-lived", "-o", "json"))
    assert "finalizers" not in live["metadata"]
    job = job_from(live)
    plan = make_plan(job.name, job.spec, Settings(trainer_image="example/none:1", image_pull_policy="Never"))
    assert plan.spec is not None
    preflight = planned_stages(plan.spec)[0]
    for body in (config_map(job, plan, plan.spec), stage_job(job, plan, plan.spec, preflight, "example/none:1", {PREFLIGHT: "0" * 64}, 1)):
        cluster.kubectl("create", "-f", "-", stdin=json.dumps(without_operator(body)))

    def children(*kinds: str) -> list[str]:
        found = cluster.kubectl("-n", namespace, "get", ",".join(kinds), "-l", "app.kubernetes.io/name=distillery", "-o", "name")
        return found.split()

    eventually(lambda: len(children("jobs", "pods", "configmaps")) == 3, "the Job, its Pod and the ConfigMap", 30)
    cluster.kubectl("-n", namespace, "delete", "dj", "short-lived", "--wait=true", "--timeout=10s")
    deleted = time.monotonic()
    eventually(
        lambda: not children("jobs", "pods", "configmaps"), "all children to go", 60, lambda: str(children("jobs", "pods", "configmaps"))
    )
    print(f"\nall children gone {time.monotonic() - deleted:.1f} s after their job")

"""Bad manifests are refused by the API server, with a message that names the field and the remedy: R14 and 'Bad input'."""

import json
import subprocess
from pathlib import Path

import pytest
import yaml
from tests.bad_manifests import BAD, Bad
from tests.conftest import Cluster

from distillery.api.job import FROZEN

pytestmark = pytest.mark.cluster
EXAMPLE = Path(__file__).parents[2] / "examples/minimal.yaml"
ENDPOINT = {
    "teacher": {"endpoint": {"teacher": "gpt-x"}},
    "student": {"model": {"uri": "hf://org/student"}},
    "budgetRef": {"name": "team-a"},
    "governance": {"declaredUse": {"purpose": "internal", "competes": False}},
}
NOW = "2026-01-01T00:00:00Z"
#: For each frozen field a change that is valid by itself.
CHANGES = {
    "teacher": {"endpoint": {"shards": 2}},
    "budgetRef": {"name": "other"},
    "governance": {"declaredUse": {"purpose": "research"}},
    "student": {"lora": {"rank": 8}},
    "data": {"overflow": "fail"},
    "method": {"rounds": [{"objectives": [{"hardLabel": {}}]}]},
    "training": {"learningRate": "0.001"},
    "evaluation": {"maxRows": 7},
    "exports": [{"name": "more", "format": "onnx", "quantization": "int8"}],
    "output": {"uri": "s3://models/elsewhere"},
    "scheduling": {"queueName": "other"},
}


def refusal(cluster: Cluster, *arguments: str, stdin: str | None = None) -> str:
    """What kubectl says when the API server refuses; fails where it does not."""
    with pytest.raises(subprocess.CalledProcessError) as failed:
        cluster.kubectl(*arguments, stdin=stdin)
    return str(failed.value.stderr)


@pytest.mark.parametrize("bad", BAD, ids=lambda bad: bad.name)
def test_a_bad_manifest_is_refused_by_field_with_a_remedy(bad: Bad, cluster: Cluster) -> None:
    said = refusal(cluster, "apply", "--dry-run=server", "-f", str(bad.path))
    assert bad.field in said
    assert bad.expect in said


@pytest.fixture
def job(cluster: Cluster, namespace: str) -> str:
    """The name of a job that has started, in `namespace`."""
    manifest = yaml.safe_load(EXAMPLE.read_text().split("\n---", 1)[0])
    name = str(manifest["metadata"]["name"])
    manifest["spec"] |= ENDPOINT  # which has every field that may be frozen
    # Suspended from the start, so that an operator makes no pods of it.
    manifest["spec"]["suspend"] = True
    cluster.kubectl("-n", namespace, "apply", "-f", "-", stdin=json.dumps(manifest))
    return name


def set_status(cluster: Cluster, namespace: str, job: str, suspended: str) -> None:
    """As the operator writes it once a job has started; as one that has ended, which a running operator leaves alone."""
    truths = {"Suspended": suspended, "Succeeded": "False"}
    conditions = [{"type": t, "status": s, "reason": "Test", "message": "", "lastTransitionTime": NOW} for t, s in truths.items()]
    status = json.dumps({"status": {"startTime": NOW, "conditions": conditions}})
    cluster.kubectl("-n", namespace, "patch", "dj", job, "--subresource=status", "--type=merge", "-p", status)


def edit(namespace: str, job: str, spec: object) -> list[str]:
    """Arguments of a kubectl that tries an edit and keeps nothing."""
    return ["-n", namespace, "patch", "dj", job, "--type=merge", "--dry-run=server", "-p", json.dumps({"spec": spec})]


def test_every_frozen_field_has_a_change() -> None:
    assert set(CHANGES) == set(FROZEN)


def test_a_started_job_refuses_changes_and_says_to_suspend_it(cluster: Cluster, namespace: str, job: str) -> None:
    for field, change in CHANGES.items():
        assert "patched" in cluster.kubectl(*edit(namespace, job, {field: change})), f"{field} may change before the start"
    set_status(cluster, namespace, job, suspended="False")
    for field, change in CHANGES.items():
        said = refusal(cluster, *edit(namespace, job, {field: change}))
        assert "spec: Forbidden: a started job's spec cannot change: set spec.suspend to true, wait for condition Suspended=True" in said, (
            field
        )


def test_a_started_job_may_be_suspended_limited_and_cancelled(cluster: Cluster, namespace: str, job: str) -> None:
    set_status(cluster, namespace, job, suspended="False")
    for change in (
        {"suspend": False},
        {"backoffLimit": 9},
        {"activeDeadlineSeconds": 60},
        {"ttlSecondsAfterFinished": 60},
        {"cancel": True},
    ):
        assert "patched" in cluster.kubectl(*edit(namespace, job, change))


def test_a_suspended_job_may_change(cluster: Cluster, namespace: str, job: str) -> None:
    set_status(cluster, namespace, job, suspended="True")
    for change in CHANGES.items():
        assert "patched" in cluster.kubectl(*edit(namespace, job, dict([change])))


def test_a_cancelled_job_stays_cancelled(cluster: Cluster, namespace: str, job: str) -> None:
    cluster.kubectl("-n", namespace, "patch", "dj", job, "--type=merge", "-p", '{"spec": {"cancel": true}}')
    assert "spec.cancel" in (said := refusal(cluster, *edit(namespace, job, {"cancel": False})))
    assert "a cancelled job stays cancelled: create a new one to run again" in said


@pytest.mark.parametrize("path", ["dj.spec.teacher", "dj.spec.student", "dj.spec.exports", "dj.status.conditions"])
def test_kubectl_explain_teaches(path: str, cluster: Cluster) -> None:
    said = cluster.kubectl("explain", path)
    assert "<no description>" not in said.split("DESCRIPTION")[1]

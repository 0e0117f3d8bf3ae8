"""Kueue itself, from its own Go module: stages wait for quota in words, and a preempted stage goes on where it was, at no attempt (R11).

On demand: `pytest -m slow tests/e2e/test_kueue.py` compiles it (some minutes, once), installs it in the cluster, and removes it.
"""

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.conftest import Cluster
from tests.e2e.conftest import Team
from tests.e2e.training import TRAINING, checkpoints, logged_steps, running_pod

KUEUE = "kueue.x-k8s.io/v1beta2"
QUEUE_LABEL = "kueue.x-k8s.io/queue-name"
INSTALL = Path(__file__).parents[1] / "kind/kueue/install"

pytestmark = [pytest.mark.cluster, pytest.mark.slow, pytest.mark.alone, pytest.mark.timeout(1800)]


@pytest.fixture(scope="module")
def kueue(cluster: Cluster) -> Iterator[None]:
    """Kueue in the cluster, with one flavor and a class of priority."""
    subprocess.run([INSTALL], check=True)
    for kind, name, fields in (("ResourceFlavor", "default", {}), ("WorkloadPriorityClass", "urgent", {"value": 1000})):
        cluster.kubectl("apply", "-f", "-", stdin=json.dumps({"apiVersion": KUEUE, "kind": kind, "metadata": {"name": name}, **fields}))
    yield
    subprocess.run([INSTALL, "remove"], check=True)


def queue(team: Team, cpu: str) -> None:
    """The team's queue `gpus`, with so much quota of CPU."""
    quotas = [{"name": "cpu", "nominalQuota": cpu}, {"name": "memory", "nominalQuota": "64Gi"}]
    flavors = [{"name": "default", "resources": quotas}]
    spec = {
        "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": team.namespace}},
        "resourceGroups": [{"coveredResources": ["cpu", "memory"], "flavors": flavors}],
        "preemption": {"withinClusterQueue": "LowerPriority"},
    }
    for kind, name, fields in (("ClusterQueue", team.namespace, spec), ("LocalQueue", "gpus", {"clusterQueue": team.namespace})):
        body = {"apiVersion": KUEUE, "kind": kind, "metadata": {"name": name}, "spec": fields}
        team.kubectl("apply", "-f", "-", stdin=json.dumps(body))


def queued(team: Team, name: str, **spec: Any) -> str:
    """A job in that queue, whose pods ask for half a CPU each."""
    resources = {"resources": {"requests": {"cpu": "500m", "memory": "512Mi"}}}
    stages = dict.fromkeys(("preflight", "traces", "curate", "train", "evaluate", "publish"), resources)
    return team.apply(team.job(name, scheduling={"queueName": "gpus", "stages": stages}, **spec))


def workloads(team: Team) -> list[dict[str, Any]]:
    """Kueue's own objects, one for each batch Job."""
    return list(json.loads(team.kubectl("get", "workloads", "-o", "json"))["items"])


@pytest.mark.usefixtures("kueue")
def test_a_job_waits_for_its_queue_and_for_quota(team: Team) -> None:
    """First there is no such queue, then it is full, then it has room: told, and no pod before."""
    name = queued(team, "waits")

    def waiting() -> bool:
        stage, condition = team.stage(name, "preflight"), team.condition(name, "QuotaReserved")
        return (stage.get("state"), stage.get("reason"), condition.get("status")) == ("Waiting", "WaitingForQuota", "False")

    team.wait(waiting, "the job to say that it waits for quota", 60)
    queue(team, cpu="0")
    team.wait(lambda: workloads(team), "Kueue to hear of the Job")
    assert waiting()
    assert team.pods(name) == []
    queue(team, cpu="4")
    team.wait(lambda: team.condition(name, "QuotaReserved").get("status") == "True", "its quota")
    status = team.ended(name)["status"]
    assert all((s["state"], s["attempts"]) == ("Succeeded", 0) for s in status["stages"])
    finished = [w for w in workloads(team) if any(c["type"] == "Finished" and c["status"] == "True" for c in w["status"]["conditions"])]
    assert len(finished) == len(status["stages"])


@pytest.mark.usefixtures("kueue")
def test_a_preempted_stage_goes_on_from_its_checkpoint(team: Team, s3: Any) -> None:
    """An urgent Job takes the quota away in mid-training and gives it back."""
    queue(team, cpu="500m")
    name = queued(team, "preempted", training=TRAINING)
    first = running_pod(team, name, "train")
    team.wait(lambda: checkpoints(s3, team, name), "a checkpoint")
    container = {"name": "c", "image": "registry.invalid/none", "resources": {"requests": {"cpu": "500m", "memory": "64Mi"}}}
    urgent = {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": "urgent", "labels": {QUEUE_LABEL: "gpus", "kueue.x-k8s.io/priority-class": "urgent"}},
        "spec": {"suspend": True, "template": {"spec": {"restartPolicy": "Never", "containers": [container]}}},
    }
    team.kubectl("apply", "-f", "-", stdin=json.dumps(urgent))
    team.wait(lambda: team.stage(name, "train").get("reason") == "WaitingForQuota", "training to be preempted")
    assert team.condition(name, "QuotaReserved")["status"] == "False"
    team.wait(lambda: not [p for p in team.pods(name, "train") if p["status"]["phase"] == "Running"], "its pod to be gone")
    team.kubectl("delete", "job", "urgent")
    second = running_pod(team, name, "train", (first,))
    team.wait(lambda: "resumed from checkpoint" in team.kubectl("logs", second), "training to go on")
    team.ended(name)
    train = team.stage(name, "train")
    assert (train["attempts"], train["runs"]) == (0, 1)
    assert logged_steps(s3, team, name) == list(range(1, TRAINING["maxSteps"] + 1))

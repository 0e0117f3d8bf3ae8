"""What a stage waits for is named in the job's status within a minute, and once it is there the job goes on by itself. Without an operator
nothing is named, and nothing is lost (A5).

One file, for one process: a test here kills the operator, and the others give it a minute.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest
from tests.e2e.conftest import Team

pytestmark = pytest.mark.cluster
SYSTEM = "distillery-system"
NOBODYS_GPU = "amd.com/gpu"
LIMITED = "example.dev/licence"


def on_a_node(team: Team, resource: str, amount: str | None) -> None:
    """The training node says that it has so much of a resource; None: that it has none of it."""
    node = team.kubectl("get", "nodes", "-l", "distillery.dev/pool=train", "-o", "jsonpath={.items[0].metadata.name}")
    patch = json.dumps({"status": {"capacity": {resource: amount}, "allocatable": {resource: amount}}})
    team.cluster.kubectl("patch", "node", node, "--subresource=status", "--type=merge", "-p", patch)


def create(team: Team, **body: Any) -> None:
    """kubectl apply in the team's namespace."""
    team.kubectl("apply", "-f", "-", stdin=json.dumps(body))


def claim(team: Team) -> None:
    """A volume of the cluster's default storage class."""
    spec = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}
    create(team, apiVersion="v1", kind="PersistentVolumeClaim", metadata={"name": "later"}, spec=spec)


def asking_for(resource: str) -> dict[str, Any]:
    """Scheduling of a job whose first stage needs one of a resource."""
    return {"stages": {"preflight": {"resources": {"limits": {resource: 1}}}}}


@dataclass(frozen=True)
class Obstacle:
    """What a job lacks: its spec, the words that its status must have, and how it is brought."""

    spec: dict[str, Any]
    reason: str
    words: tuple[str, ...]
    bring: Callable[[Team], object]
    #: Before the job is applied.
    lay: Callable[[Team], object] = field(default=lambda team: None)


def quota(team: Team, amount: str) -> None:
    """So many of a resource for the whole namespace; pods that do not ask for it are free."""
    create(team, apiVersion="v1", kind="ResourceQuota", metadata={"name": "licences"}, spec={"hard": {f"requests.{LIMITED}": amount}})


OBSTACLES = {
    "no-account": Obstacle(
        {"scheduling": {"serviceAccountName": "trainer"}},
        "ServiceAccountMissing",
        ('create ServiceAccount "trainer"',),
        lambda team: team.kubectl("create", "serviceaccount", "trainer"),
    ),
    "no-claim": Obstacle({"output": {"uri": "pvc://later/out"}}, "VolumeUnavailable", ('create PersistentVolumeClaim "later"',), claim),
    "no-gpu": Obstacle(
        {"scheduling": asking_for(NOBODYS_GPU)},
        "Unschedulable",
        (f"Insufficient {NOBODYS_GPU}", "spec.scheduling.stages.preflight"),
        lambda team: on_a_node(team, NOBODYS_GPU, "1"),
    ),
    "no-quota": Obstacle(
        {"scheduling": asking_for(LIMITED)},
        "QuotaExceeded",
        ("exceeded quota: licences", "have the ResourceQuota raised"),
        lambda team: quota(team, "1"),
        lambda team: (on_a_node(team, LIMITED, "1"), quota(team, "0")),
    ),
}


def test_what_is_missing_is_named_and_its_coming_is_enough(team: Team) -> None:
    """Four jobs at once, each with an obstacle of its own."""
    try:
        for name, obstacle in OBSTACLES.items():
            obstacle.lay(team)
            team.apply(team.job(name, **obstacle.spec))
        reasons = {name: obstacle.reason for name, obstacle in OBSTACLES.items()}
        team.wait(
            lambda: {name: team.stage(name, "preflight").get("reason") for name in reasons} == reasons, "what is missing to be named", 60
        )
        for name, obstacle in OBSTACLES.items():
            stage = team.stage(name, "preflight")
            assert stage["state"] == "Waiting"
            assert all(words in stage["message"] for words in obstacle.words), stage["message"]
            assert team.condition(name, "Succeeded")["status"] == "Unknown"
        for obstacle in OBSTACLES.values():
            obstacle.bring(team)
        for name in OBSTACLES:
            team.wait(lambda name=name: team.stage(name, "preflight").get("state") in ("Running", "Succeeded"), f"{name} to go on", 180)
            team.kubectl("patch", "dj", name, "--type=merge", "-p", '{"spec":{"suspend":true}}')
            assert team.stage(name, "preflight")["attempts"] == 0
    finally:
        for resource in (NOBODYS_GPU, LIMITED):
            on_a_node(team, resource, None)


def test_missing_secret_is_named_and_heals(team: Team) -> None:
    """Within a minute the status says which Secret is missing; once it is there, the job goes on by itself."""
    keys = json.loads(team.kubectl("get", "secret", "object-store", "-o", "json"))["data"]
    team.kubectl("delete", "secret", "object-store")
    name = team.apply(team.job("early"))
    team.wait(lambda: "object-store" in team.stage(name, "preflight").get("message", ""), "the missing Secret to be named", 60)
    assert team.condition(name, "Succeeded")["status"] == "Unknown"
    team.kubectl(
        "apply", "-f", "-", stdin=json.dumps({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "object-store"}, "data": keys})
    )
    team.wait(lambda: team.stage(name, "traces").get("state") == "Running", "the job to go on by itself")
    assert all(s["attempts"] == 0 for s in team.get(name)["status"]["stages"])


def kill_operator_pods(team: Team) -> None:
    """SIGKILL every operator replica: no time to finish, no lease released."""
    team.cluster.kubectl("-n", SYSTEM, "delete", "pods", "-l", "app.kubernetes.io/component=operator", "--force", "--grace-period=0")


def test_operator_killed_at_every_stage(team: Team) -> None:
    """A new operator goes on from what it finds: one Job per stage, no attempt."""
    name = team.apply(team.job("killed-operator"))
    for stage in ("preflight", "traces", "train", "evaluate", "publish"):
        team.wait(lambda stage=stage: team.stage(name, stage).get("state") in ("Running", "Waiting", "Succeeded"), f"{stage} to start")
        kill_operator_pods(team)
    team.ended(name)
    stages = [job["metadata"]["labels"]["distillery.dev/stage"] for job in team.jobs(name)]
    assert sorted(stages) == sorted(set(stages))
    assert all(s["attempts"] == 0 and s["runs"] == 1 for s in team.get(name)["status"]["stages"])

"""Whatever is killed, the job ends the same: nothing twice, nothing lost, no attempt spent on what is not the stage's fault (A5, R11)."""

import json
from typing import Any

import pytest
from tests.e2e.conftest import Team

pytestmark = pytest.mark.cluster

TRAINING = {"maxSteps": 300, "globalBatchSize": 16, "maxSequenceLength": 256, "learningRate": "0.002", "checkpoint": {"everySteps": 10}}
SYSTEM = "distillery-system"


def kill_operator_pods(team: Team) -> None:
    """SIGKILL every operator replica: no time to finish, no lease released."""
    team.cluster.kubectl("-n", SYSTEM, "delete", "pods", "-l", "app.kubernetes.io/component=operator", "--force", "--grace-period=0")


def running_pod(team: Team, name: str, stage: str) -> str:
    """The name of the stage's running pod."""
    pods = team.wait(lambda: [p for p in team.pods(name, stage) if p["status"]["phase"] == "Running"], f"a running pod of {stage}")
    return str(pods[0]["metadata"]["name"])


def checkpoint(team: Team, name: str) -> int:
    """The last step whose checkpoint is known to be in the store."""
    return int(team.stage(name, "train").get("progress", {}).get("checkpointStep", 0))


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


def test_training_pod_killed_and_evicted_continues_from_its_checkpoint(team: Team, s3: Any) -> None:
    """A pod that is evicted costs no attempt; the log of training has each step once, and says where it went on."""
    name = team.apply(team.job("evicted", training=TRAINING))
    team.wait(lambda: checkpoint(team, name) >= 10, "a checkpoint")
    pod = running_pod(team, name, "train")
    eviction = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": pod, "namespace": team.namespace}}
    team.cluster.kubectl(
        "create", "--raw", f"/api/v1/namespaces/{team.namespace}/pods/{pod}/eviction", "-f", "-", stdin=json.dumps(eviction)
    )
    team.wait(lambda: team.stage(name, "train").get("runs") == 2, "the second run")
    team.kubectl("delete", "pod", running_pod(team, name, "train"), "--force", "--grace-period=0")
    team.ended(name)
    train = team.stage(name, "train")
    assert train["attempts"] == 0
    assert train["runs"] >= 2
    log = s3.get_object(Bucket="e2e", Key=f"{team.output.removeprefix('s3://e2e/')}/stages/train-{train['hash']}/log.jsonl")["Body"].read()
    steps = [json.loads(line)["step"] for line in log.splitlines()]
    assert steps == sorted(set(steps))
    assert steps[-1] == TRAINING["maxSteps"]
    assert "checkpoint" in train["message"]


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
    team.ended(name)


def test_missing_rows_end_the_job_and_the_documented_wait_ends_too(team: Team) -> None:
    """A user's mistake is terminal, says the remedy, and `kubectl wait` for the completion time returns."""
    job = team.job("no-rows")
    job["spec"]["data"]["train"]["uri"] = f"{team.inputs}/nothing.jsonl"
    name = team.apply(job)
    team.kubectl("wait", "--for=jsonpath={.status.completionTime}", f"dj/{name}", "--timeout=180s")
    ended = team.ended(name, "False")
    succeeded = team.condition(name, "Succeeded")
    assert "nothing.jsonl" in succeeded["message"]
    assert "spec.data.train" in succeeded["message"]
    assert team.condition(name, "Stalled")["status"] == "True"
    assert ended["status"]["phase"] == "Failed"

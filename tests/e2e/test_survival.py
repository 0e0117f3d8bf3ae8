"""Whatever is killed, the job ends the same: nothing twice, nothing lost, no attempt spent on what is not the stage's fault (A5, R11)."""

import json
from typing import Any

import pytest
from tests.e2e.conftest import BUCKET, Team
from tests.e2e.store import objects_under

pytestmark = pytest.mark.cluster

TRAINING: dict[str, Any] = {
    "maxSteps": 3000,
    "globalBatchSize": 16,
    "maxSequenceLength": 256,
    "learningRate": "0.002",
    "checkpoint": {"everySteps": 200},
}
MARKER = "/complete.json"


def running_pod(team: Team, name: str, stage: str, other_than: tuple[str, ...] = ()) -> str:
    """The name of the stage's running pod, which is not one of those that were killed."""

    def running() -> list[str]:
        pods = [p for p in team.pods(name, stage) if p["status"]["phase"] == "Running" and "deletionTimestamp" not in p["metadata"]]
        return [p["metadata"]["name"] for p in pods if p["metadata"]["name"] not in other_than]

    return str(team.wait(running, f"a running pod of {stage}")[0])


def checkpoints(s3: Any, team: Team, name: str) -> set[str]:
    """The marker files of training's checkpoints in the store."""
    stage_hash = team.stage(name, "train")["hash"]
    keys = objects_under(s3, f"{team.output}/stages/train-{stage_hash}/work")
    return {key for key in keys if key.endswith(MARKER)}


def test_training_pod_killed_and_evicted_continues_from_its_checkpoint(team: Team, s3: Any) -> None:
    """Neither costs an attempt; the last pod says where it went on, and the log of training has each step once."""
    name = team.apply(team.job("evicted", training=TRAINING))
    evicted = running_pod(team, name, "train")
    before = team.wait(lambda: checkpoints(s3, team, name), "a checkpoint")
    eviction = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": evicted, "namespace": team.namespace}}
    team.cluster.kubectl(
        "create", "--raw", f"/api/v1/namespaces/{team.namespace}/pods/{evicted}/eviction", "-f", "-", stdin=json.dumps(eviction)
    )
    killed = running_pod(team, name, "train", (evicted,))
    team.wait(lambda: checkpoints(s3, team, name) - before, "a later checkpoint")
    team.kubectl("delete", "pod", killed, "--force", "--grace-period=0")
    last = running_pod(team, name, "train", (evicted, killed))
    team.wait(lambda: "resumed from checkpoint" in team.kubectl("logs", last), "training to go on")
    team.ended(name)
    train = team.stage(name, "train")
    assert train["attempts"] == 0
    folder = f"{team.output.removeprefix(f's3://{BUCKET}/')}/stages/train-{train['hash']}"
    manifest = json.loads(s3.get_object(Bucket=BUCKET, Key=f"{folder}/manifest.json")["Body"].read())
    log = s3.get_object(Bucket=BUCKET, Key=f"{folder}/{manifest['root']}/log.jsonl")["Body"].read()
    assert [json.loads(line)["step"] for line in log.splitlines()] == list(range(1, TRAINING["maxSteps"] + 1))


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

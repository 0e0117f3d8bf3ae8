"""Whatever is killed, the job ends the same: nothing twice, nothing lost, no attempt spent on what is not the stage's fault (A5, R11)."""

import json
from typing import Any

import pytest
from tests.e2e.conftest import Team
from tests.e2e.training import TRAINING, checkpoints, logged_steps, running_pod

pytestmark = pytest.mark.cluster


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
    assert team.stage(name, "train")["attempts"] == 0
    assert logged_steps(s3, team, name) == list(range(1, TRAINING["maxSteps"] + 1))


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

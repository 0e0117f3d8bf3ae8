"""A training long enough to be interrupted, and what it leaves in the store."""

import json
from typing import Any

from tests.e2e.conftest import BUCKET, Team
from tests.e2e.store import objects_under

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


def logged_steps(s3: Any, team: Team, name: str) -> list[int]:
    """The steps that the log of a finished training has, in its order."""
    folder = f"{team.output.removeprefix(f's3://{BUCKET}/')}/stages/train-{team.stage(name, 'train')['hash']}"
    manifest = json.loads(s3.get_object(Bucket=BUCKET, Key=f"{folder}/manifest.json")["Body"].read())
    log = s3.get_object(Bucket=BUCKET, Key=f"{folder}/{manifest['root']}/log.jsonl")["Body"].read()
    return [json.loads(line)["step"] for line in log.splitlines()]

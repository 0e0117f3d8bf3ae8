"""One whole job on the cluster, and what the next ones may reuse of it (A5's base, A6, A9, A11)."""

import json
from typing import Any
from urllib.parse import urlsplit

import pytest
from tests.e2e.conftest import HELD_OUT_ROWS, Team
from tests.e2e.store import objects_under

pytestmark = pytest.mark.cluster

STAGES = ["preflight", "traces", "curate", "train", "evaluate"]
GGUF = {"name": "edge-q8", "format": "gguf", "quantization": "q8_0", "nodeSelector": {"distillery.dev/pool": "edge"}}
ONNX = {"name": "onnx", "format": "onnx", "quantization": "fp32"}
GPU = {"resources": {"limits": {"nvidia.com/gpu": 1}}, "nodeSelector": {"distillery.dev/pool": "train"}}


def assert_restricted_and_without_api_token(pod: dict[str, Any]) -> None:
    """The namespace enforces `restricted`; beyond it: no API token, no RoleBinding needed."""
    assert pod["spec"]["automountServiceAccountToken"] is False
    audiences = [
        source["serviceAccountToken"].get("audience")
        for volume in pod["spec"]["volumes"]
        for source in volume.get("projected", {}).get("sources", [])
        if "serviceAccountToken" in source
    ]
    assert audiences == ["distillery-gateway"]


def test_job_runs_every_stage_and_a_copy_reuses_what_it_can(team: Team, s3: Any, fake_gpu: None) -> None:
    """Apply, succeed, find the files; a copy with another export runs preflight, that export and publish only."""
    name = team.apply(team.job("first", exports=[GGUF, ONNX], scheduling={"stages": {"train": GPU}}))
    first = team.ended(name)
    status = first["status"]
    assert [s["name"] for s in status["stages"]] == [*STAGES, "export-edge-q8", "export-onnx", "publish"]
    assert {s["state"] for s in status["stages"]} == {"Succeeded"}
    assert all(s["attempts"] == 0 and s["runs"] == 1 for s in status["stages"])
    assert status["phase"] == "Succeeded"
    assert status["progress"]["percentage"] == 100
    assert status["evaluation"]["rows"] == HELD_OUT_ROWS
    published = objects_under(s3, status["modelURI"])
    assert {"config.json", "model.safetensors", "tokenizer.json"} <= published
    assert {a["name"] for a in status["artifacts"] if a["uri"].startswith(team.output)} == {"edge-q8", "onnx"}
    report = urlsplit(status["reportURI"])
    manifest = json.loads(s3.get_object(Bucket=report.netloc, Key=report.path.strip("/"))["Body"].read())
    assert all(len(f["sha256"]) == 64 for f in manifest["files"])

    nodes = {pod["metadata"]["labels"]["distillery.dev/stage"]: pod["spec"]["nodeName"] for pod in team.pods(name)}
    assert nodes["train"].endswith("worker")
    assert nodes["export-edge-q8"] == edge_node(team)
    for pod in team.pods(name):
        assert_restricted_and_without_api_token(pod)

    copy = team.apply(
        team.job("copy", exports=[GGUF, {**ONNX, "name": "int8", "quantization": "int8"}], scheduling={"stages": {"train": GPU}})
    )
    second = team.ended(copy)
    states = {s["name"]: s["state"] for s in second["status"]["stages"]}
    assert states == dict.fromkeys([*STAGES[1:], "export-edge-q8"], "Reused") | dict.fromkeys(
        ["preflight", "export-int8", "publish"], "Succeeded"
    )
    ran = {job["metadata"]["labels"]["distillery.dev/stage"] for job in team.jobs(copy)}
    assert ran == {"preflight", "export-int8", "publish"}
    assert second["status"]["evaluation"] == status["evaluation"]
    assert {a["name"] for a in second["status"]["artifacts"]} == {"edge-q8", "int8"}


def edge_node(team: Team) -> str:
    """The name of the node that is labelled as an edge target."""
    return team.kubectl("get", "nodes", "-l", "distillery.dev/pool=edge", "-o", "jsonpath={.items[0].metadata.name}")


def test_suspended_job_with_another_learning_rate_runs_again_from_training(team: Team) -> None:
    """A running job's edit is refused with the way out; suspended, edited and resumed it trains anew, and no trace is made twice."""
    job = team.job("edited", training={"maxSteps": 4000, "globalBatchSize": 16, "maxSequenceLength": 256, "checkpoint": {"everySteps": 5}})
    name = team.apply(job)
    team.wait(lambda: team.stage(name, "train").get("state") == "Running", "training to run")
    with pytest.raises(Exception) as refused:  # noqa: PT011  # kubectl's words are in the notes
        team.kubectl("patch", "dj", name, "--type=merge", "-p", '{"spec":{"training":{"learningRate":"0.5"}}}')
    assert "set spec.suspend to true" in "".join(refused.value.__notes__)
    hashes = {s: team.stage(name, s)["hash"] for s in ("traces", "curate", "train")}

    team.kubectl("patch", "dj", name, "--type=merge", "-p", '{"spec":{"suspend":true}}')
    team.wait(lambda: team.condition(name, "Suspended").get("status") == "True", "the job to be suspended")
    assert all(pod["status"]["phase"] in ("Succeeded", "Failed") for pod in team.pods(name))
    team.kubectl("patch", "dj", name, "--type=merge", "-p", '{"spec":{"training":{"learningRate":"0.001","maxSteps":10},"suspend":false}}')
    team.ended(name)
    assert team.stage(name, "traces")["hash"] == hashes["traces"]
    assert team.stage(name, "traces")["runs"] == 1
    assert team.stage(name, "curate")["runs"] == 1
    assert team.stage(name, "train")["hash"] != hashes["train"]
    assert team.stage(name, "train")["attempts"] == 0

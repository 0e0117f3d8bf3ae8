"""The images and the nodes are what pods and examples count on: restricted, read-only, labelled, with GPUs that can be counted."""

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
from tests.conftest import Cluster

pytestmark = pytest.mark.cluster

HARDENED = {
    "allowPrivilegeEscalation": False,
    "capabilities": {"drop": ["ALL"]},
    "readOnlyRootFilesystem": True,
    "runAsNonRoot": True,
    "seccompProfile": {"type": "RuntimeDefault"},
}
LIBRARIES = "import torch, transformers, peft, onnx, onnxruntime, gguf, xllamacpp, boto3, pyarrow; torch.ones(2) @ torch.ones(2)"
FAKE_GPU = Path(__file__).parents[1] / "kind/fake-gpu"


@pytest.fixture(scope="module")
def images(cluster: Cluster) -> dict[str, str]:
    """`operator` and `trainer`: the references that the chart in the cluster was given."""
    values = subprocess.run(
        ["helm", f"--kubeconfig={cluster.kubeconfig}", "-n", "distillery-system", "get", "values", "distillery", "-o", "json"],
        check=True,
        capture_output=True,
        text=True,
    )
    found: dict[str, str] = json.loads(values.stdout)["image"]
    return found


def run(cluster: Cluster, namespace: str, image: str, command: list[str], **spec: Any) -> str:
    """The log of a hardened pod that ran the command to its end, with /tmp alone writable, as in a stage's pod."""
    name = "probe"
    container: dict[str, Any] = {"name": "probe", "image": image, "command": command, "securityContext": HARDENED}
    container["volumeMounts"] = [{"name": "tmp", "mountPath": "/tmp"}]
    volumes = [{"name": "tmp", "emptyDir": {}}]
    manifest = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {"restartPolicy": "Never", "automountServiceAccountToken": False, "containers": [container], "volumes": volumes, **spec},
    }
    cluster.kubectl("apply", "-f", "-", stdin=json.dumps(manifest))
    ended = "{.status.containerStatuses[0].state.terminated.reason}"
    cluster.kubectl("-n", namespace, "wait", f"pod/{name}", f"--for=jsonpath={ended}", "--timeout=240s")
    log = cluster.kubectl("-n", namespace, "logs", name)
    reason = cluster.kubectl("-n", namespace, "get", "pod", name, "-o", f"jsonpath={ended}")
    assert reason == "Completed", log
    return log


@pytest.mark.parametrize(
    ("image", "command", "says"),
    [
        ("operator", ["distillery-operator", "--help"], "--trainer-image"),
        ("operator", ["distillery-gateway", "--help"], "usage"),
        ("trainer", ["distill", "--help"], "usage"),
        ("trainer", ["python", "-c", LIBRARIES + "; import os; print(os.getuid())"], "65532"),
    ],
)
def test_program_runs_restricted_with_a_read_only_root(
    cluster: Cluster, namespace: str, images: dict[str, str], image: str, command: list[str], says: str
) -> None:
    """Non-root, read-only root, no capability, Pod Security `restricted`."""
    assert says in run(cluster, namespace, images[image], command)


def test_workers_carry_the_labels_that_examples_select(cluster: Cluster) -> None:
    """One node to train on, one edge target."""
    nodes = json.loads(cluster.kubectl("get", "nodes", "-o", "json"))["items"]
    pools = [node["metadata"]["labels"].get("distillery.dev/pool") for node in nodes]
    assert sorted(pool for pool in pools if pool) == ["edge", "train"]


def test_pod_that_asks_for_a_gpu_goes_where_a_fake_one_is(cluster: Cluster, namespace: str, images: dict[str, str]) -> None:
    """Extended resources are scheduled by the real scheduler; nothing but the capacity is fake."""
    node = cluster.kubectl("get", "nodes", "-l", "distillery.dev/pool=train", "-o", "jsonpath={.items[0].metadata.name}")
    capacity = "jsonpath={.status.capacity.nvidia\\.com/gpu}"
    before = cluster.kubectl("get", "node", node, "-o", capacity) or "0"
    claim: dict[str, Any] = {"name": "claim", "image": images["operator"], "command": ["true"], "securityContext": HARDENED}
    claim["resources"] = {"limits": {"nvidia.com/gpu": "1"}}
    subprocess.run(["bash", FAKE_GPU, node, "1"], check=True, capture_output=True)
    try:
        run(cluster, namespace, images["operator"], ["true"], initContainers=[claim])
        placed = cluster.kubectl("-n", namespace, "get", "pod", "probe", "-o", "jsonpath={.spec.nodeName}")
    finally:
        subprocess.run(["bash", FAKE_GPU, node, before], check=True, capture_output=True)
    assert placed == node

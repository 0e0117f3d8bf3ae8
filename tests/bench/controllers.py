"""How many requests a second the controller manager of a kind cluster allows itself, which is the pace of the Job controller."""

from __future__ import annotations

import json
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from tests.conftest import Cluster

_MANIFEST = "/etc/kubernetes/manifests/kube-controller-manager.yaml"
_ASIDE = "/etc/kubernetes/kube-controller-manager.yaml.aside"
#: A static pod is started anew, and has to win its Lease, which its predecessor held.
_PATIENCE = 240.0
#: Thousands of Jobs and pods of a run before take so long to go, at most.
_SWEPT = 1800.0


@contextmanager
def kube_api_qps(cluster: Cluster, qps: int | None) -> Iterator[None]:
    """With this `--kube-api-qps` while the block runs (and half as much again as burst); None: as the cluster is (20 by default)."""
    if qps is None:
        yield
        return
    node = _control_plane(cluster)
    flags = f"    - --kube-api-qps={qps}\\n    - --kube-api-burst={qps * 3 // 2}"
    edit = f"s|^    - kube-controller-manager$|&\\n{flags}|"
    # the kubelet reads every file of the folder, so what is half written stands elsewhere
    _on(node, f"cp {_MANIFEST} {_ASIDE} && sed '{edit}' {_ASIDE} > {_ASIDE}.new && cp {_ASIDE}.new {_MANIFEST}")
    try:
        _until_it_leads(cluster, f"--kube-api-qps={qps}", True)
        yield
    finally:
        _on(node, f"cp {_ASIDE} {_MANIFEST}")
        _until_it_leads(cluster, f"--kube-api-qps={qps}", False)


def until_swept(cluster: Cluster) -> None:
    """Wait until no namespace is being deleted: the objects of a run before would be listed, and their deletion paid for, in this one."""
    pause, deadline = threading.Event(), time.monotonic() + _SWEPT
    while any(
        "deletionTimestamp" in found["metadata"] for found in json.loads(cluster.kubectl("get", "namespaces", "-o", "json"))["items"]
    ):
        assert time.monotonic() < deadline, "a namespace is being deleted without end: kubectl get namespaces"
        pause.wait(5)


def _control_plane(cluster: Cluster) -> str:
    """The node's name, which is that of its container."""
    return cluster.kubectl("get", "nodes", "-l", "node-role.kubernetes.io/control-plane", "-o", "jsonpath={.items[0].metadata.name}")


def _on(node: str, script: str) -> None:
    subprocess.run(["docker", "exec", node, "sh", "-c", script], check=True, capture_output=True, text=True, timeout=60)


def _until_it_leads(cluster: Cluster, flag: str, wanted: bool) -> None:
    """Wait for a ready pod with, or without, the flag, whose Lease is renewed."""
    pause, deadline = threading.Event(), time.monotonic() + _PATIENCE
    while not (_runs(cluster, flag) is wanted and _leads(cluster)):
        assert time.monotonic() < deadline, f"kube-controller-manager is not there {'with' if wanted else 'without'} {flag}"
        pause.wait(2)


def _runs(cluster: Cluster, flag: str) -> bool | None:
    """Whether the ready pod has the flag; None while there is none."""
    pods = json.loads(cluster.kubectl("-n", "kube-system", "get", "pods", "-l", "component=kube-controller-manager", "-o", "json"))["items"]
    for pod in pods:
        ready = {c["type"]: c["status"] for c in pod.get("status", {}).get("conditions", ())}.get("Ready") == "True"
        if ready and "deletionTimestamp" not in pod["metadata"]:
            return flag in pod["spec"]["containers"][0]["command"]
    return None


def _leads(cluster: Cluster) -> bool:
    """Whether the Lease moves: it was renewed between two looks."""
    path = ("-n", "kube-system", "get", "lease", "kube-controller-manager", "-o", "jsonpath={.spec.renewTime}")
    before = cluster.kubectl(*path)
    threading.Event().wait(5)
    return cluster.kubectl(*path) != before

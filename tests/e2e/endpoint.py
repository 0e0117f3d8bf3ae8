"""A teacher behind an API, for the tests: llama.cpp's own server in the cluster, and what a platform team writes about it."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.conftest import Cluster, ObjectStore
from tests.e2e.conftest import EXAMPLE as ROWS
from tests.e2e.conftest import HELD_OUT_ROWS, TRAIN_ROWS, Team

EXAMPLE = Path(__file__).parents[2] / "examples/endpoint"
#: Has to be listed in the chart's openBaseURLs (tests/kind/values.yaml).
NAMESPACE = "distillery-teachers"
BASE_URL = f"http://arithmetic-teacher.{NAMESPACE}:8000/v1"


class TeacherServer:
    """The server's own counters."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster

    def written_tokens(self) -> int:
        """Tokens that it has ever generated, by its own word."""
        path = f"/api/v1/namespaces/{NAMESPACE}/services/arithmetic-teacher:http/proxy/metrics"
        for line in self._cluster.kubectl("get", "--raw", path).splitlines():
            if line.startswith("llamacpp:tokens_predicted_total "):
                return int(float(line.split()[1]))
        raise AssertionError("llama.cpp's metrics name no tokens_predicted_total")


@pytest.fixture(scope="session")
def teacher_server(cluster: Cluster, object_store: ObjectStore, inputs: str) -> Iterator[TeacherServer]:
    """The arithmetic teacher in llama.cpp, in a namespace of its own."""
    operator = json.loads(cluster.kubectl("-n", "distillery-system", "get", "deployments", "-o", "json"))["items"]
    arguments = [a for d in operator for c in d["spec"]["template"]["spec"]["containers"] for a in c["args"]]
    image = next(a.split("=", 1)[1] for a in arguments if a.startswith("--trainer-image="))
    keys = {
        "AWS_ACCESS_KEY_ID": object_store.access_key_id,
        "AWS_SECRET_ACCESS_KEY": object_store.secret_access_key,
        "AWS_ENDPOINT_URL": object_store.cluster_endpoint,
        "AWS_REGION": "us-east-1",
    }
    objects: list[dict[str, Any]] = [
        {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}},
        {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "object-store", "namespace": NAMESPACE}, "stringData": keys},
        {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {"name": "serve", "namespace": NAMESPACE},
            "data": {"serve.py": (EXAMPLE / "serve.py").read_text()},
        },
    ]
    # An earlier run may have left it on its way out: what is applied to it then would go with it.
    cluster.kubectl("delete", "namespace", NAMESPACE, "--ignore-not-found", "--timeout=120s")
    for item in objects:
        cluster.kubectl("apply", "-f", "-", stdin=json.dumps(item))
    manifest = (
        (EXAMPLE / "teacher.yaml").read_text().replace("IMAGE", image).replace("s3://examples/arithmetic/teacher", f"{inputs}/teacher")
    )
    cluster.kubectl("-n", NAMESPACE, "apply", "-f", "-", stdin=manifest)
    cluster.kubectl("-n", NAMESPACE, "rollout", "status", "deployment/arithmetic-teacher", "--timeout=240s")
    yield TeacherServer(cluster)
    cluster.kubectl("delete", "namespace", NAMESPACE, "--wait=false")


def budget(called: str = "team", limits: dict[str, Any] | None = None, **teacher: Any) -> dict[str, Any]:
    """A TeacherBudget for that server; keywords replace fields of its teacher."""
    base = {
        "name": "arithmetic",
        "baseURL": BASE_URL,
        "model": "arithmetic",
        "templateTokens": 160,
        "prices": {"inputPerMillion": "1.00", "outputPerMillion": "4.00"},
        "maxCompletionTokens": 64,
        "terms": {"service": "self-hosted", "weights": "apache-2.0"},
    }
    return {
        "apiVersion": "distillery.dev/v1alpha1",
        "kind": "TeacherBudget",
        "metadata": {"name": called},
        "spec": {"limits": limits or {"total": "1.00"}, "teachers": [base | teacher]},
    }


def endpoint_job(team: Team, name: str, **spec: Any) -> dict[str, Any]:
    """A small job whose completions are bought; keywords replace fields of its spec."""
    secret = {"name": "object-store"}
    job = team.job(name)
    rows = job["spec"]["data"]
    endpoint = {
        "teacher": "arithmetic",
        "sampling": {"maxCompletionTokens": 8},
        "tokenizer": {"uri": f"{team.inputs}/teacher", "credentialsSecretRef": secret},
        "shards": 2,
    }
    job["spec"] |= {
        "teacher": {"endpoint": endpoint},
        "budgetRef": {"name": "team"},
        "governance": {"declaredUse": {"purpose": "internal", "competes": False}},
        "data": rows | {"train": rows["train"] | {"format": "prompt"}},
    }
    job["spec"] |= spec
    return job


def apply(team: Team, manifest: dict[str, Any]) -> None:
    """kubectl apply in the team's namespace."""
    team.kubectl("apply", "-f", "-", stdin=json.dumps(manifest))


def distinct_requests() -> int:
    """Different prompts in the rows of the tests: what has to be bought, and no more."""
    asked = set()
    for name, count in (("train", TRAIN_ROWS), ("evaluation", HELD_OUT_ROWS)):
        for line in (ROWS / f"{name}.jsonl").read_text().splitlines()[:count]:
            asked.add((name, json.loads(line)["prompt"]))
    return len(asked)

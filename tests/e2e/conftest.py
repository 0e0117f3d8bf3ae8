"""A team of users on the cluster: a namespace with the object store's Secret, and jobs small enough for a CPU."""

import json
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from tests.conftest import Cluster, ObjectStore, one_at_a_time
from tests.e2e.waiting import eventually

EXAMPLE = Path(__file__).parents[2] / "examples/arithmetic"
BUCKET = "e2e"
TRAIN_ROWS, HELD_OUT_ROWS = 96, 24


@pytest.fixture(scope="session")
def inputs(s3: Any) -> str:
    """The arithmetic teacher and a few of its rows, uploaded; returns their URI."""
    with one_at_a_time("inputs"):
        if BUCKET not in {b["Name"] for b in s3.list_buckets()["Buckets"]}:
            s3.create_bucket(Bucket=BUCKET)
        for path in sorted((EXAMPLE / "teacher").iterdir()):
            s3.upload_file(str(path), BUCKET, f"inputs/teacher/{path.name}")
        for name, rows in (("train", TRAIN_ROWS), ("evaluation", HELD_OUT_ROWS)):
            lines = (EXAMPLE / f"{name}.jsonl").read_text().splitlines()[:rows]
            s3.put_object(Bucket=BUCKET, Key=f"inputs/{name}.jsonl", Body="\n".join(lines).encode())
    return f"s3://{BUCKET}/inputs"


@dataclass
class Team:
    """What a team does: apply jobs, look at them, wait for them. Every wait has a deadline."""

    cluster: Cluster
    namespace: str
    inputs: str
    output: str
    applied: list[str] = field(default_factory=list)

    def kubectl(self, *arguments: str, stdin: str | None = None) -> str:
        """kubectl in the team's namespace."""
        return self.cluster.kubectl("-n", self.namespace, *arguments, stdin=stdin)

    def job(self, name: str, **spec: Any) -> dict[str, Any]:
        """A small whole job; keywords replace fields of its spec."""
        secret = {"name": "object-store"}
        student = {"numHiddenLayers": 1, "hiddenSize": 64, "intermediateSize": 96, "numAttentionHeads": 2, "numKeyValueHeads": 1}
        base = {
            "teacher": {"model": {"uri": f"{self.inputs}/teacher", "credentialsSecretRef": secret}},
            "student": {"scratch": student},
            "data": {
                "train": {"uri": f"{self.inputs}/train.jsonl", "format": "promptCompletion", "credentialsSecretRef": secret},
                "evaluation": {"uri": f"{self.inputs}/evaluation.jsonl", "format": "promptCompletion", "credentialsSecretRef": secret},
            },
            "training": {
                "maxSteps": 20,
                "globalBatchSize": 16,
                "maxSequenceLength": 256,
                "learningRate": "0.002",
                "checkpoint": {"everySteps": 5},
            },
            "evaluation": {"generation": {"maxNewTokens": 16}},
            "output": {"uri": self.output, "credentialsSecretRef": secret},
        }
        return {
            "apiVersion": "distillery.dev/v1alpha1",
            "kind": "DistillationJob",
            "metadata": {"name": name, "namespace": self.namespace},
            "spec": base | spec,
        }

    def apply(self, job: dict[str, Any]) -> str:
        """kubectl apply; the job's name."""
        self.kubectl("apply", "-f", "-", stdin=json.dumps(job))
        return str(job["metadata"]["name"])

    def get(self, name: str) -> dict[str, Any]:
        """The live object."""
        return dict(json.loads(self.kubectl("get", "distillationjob", name, "-o", "json")))

    def status(self, name: str) -> dict[str, Any]:
        """What the operator wrote; empty while it has not seen the job."""
        return dict(self.get(name).get("status", {}))

    def stage(self, name: str, stage: str) -> dict[str, Any]:
        """One stage's status; empty while it is not known."""
        stages = self.status(name).get("stages", [])
        return next((s for s in stages if s["name"] == stage), {})

    def condition(self, name: str, kind: str) -> dict[str, Any]:
        """One condition; empty while it is not known."""
        conditions = self.status(name).get("conditions", [])
        return next((c for c in conditions if c["type"] == kind), {})

    def jobs(self, name: str) -> list[dict[str, Any]]:
        """The batch Jobs of a DistillationJob."""
        return list(json.loads(self.kubectl("get", "jobs", "-l", f"distillery.dev/job={name}", "-o", "json"))["items"])

    def pods(self, name: str, stage: str | None = None) -> list[dict[str, Any]]:
        """The pods of a DistillationJob, or of one of its stages."""
        selector = f"distillery.dev/job={name}" + (f",distillery.dev/stage={stage}" if stage else "")
        return list(json.loads(self.kubectl("get", "pods", "-l", selector, "-o", "json"))["items"])

    def wait(self, until: Callable[[], Any], what: str, seconds: float = 300) -> Any:
        """The first true value of `until`; fails with the namespace's state after the deadline."""
        return eventually(until, what, seconds, self._state)

    def ended(self, name: str, status: str = "True", seconds: float = 600) -> dict[str, Any]:
        """The job once Succeeded is True or False; it must be as expected."""
        found = self.wait(
            lambda: (c := self.condition(name, "Succeeded")).get("status") in ("True", "False") and c, f"{name} to end", seconds
        )
        assert found["status"] == status, f"{found['reason']}: {found['message']}\n{self._state()}"
        return self.get(name)

    def _state(self) -> str:
        return "\n".join(self.kubectl("get", what, "-o", "wide") for what in ("distillationjobs", "jobs", "pods", "events"))


@pytest.fixture
def fake_gpu(cluster: Cluster) -> None:
    """The training node says that it has one GPU; no hardware backs it, but the scheduler believes it."""
    node = cluster.kubectl("get", "nodes", "-l", "distillery.dev/pool=train", "-o", "jsonpath={.items[0].metadata.name}")
    gpu = {"nvidia.com/gpu": "1"}
    patch = json.dumps({"status": {"capacity": gpu, "allocatable": gpu}})
    cluster.kubectl("patch", "node", node, "--subresource=status", "--type=merge", "-p", patch)


@pytest.fixture
def team(cluster: Cluster, namespace: str, object_store: ObjectStore, inputs: str) -> Team:
    """A team with its own namespace and its own output folder."""
    return make_team(cluster, namespace, object_store, inputs)


def make_team(cluster: Cluster, namespace: str, object_store: ObjectStore, inputs: str) -> Team:
    """Give a namespace the Secret of the object store."""
    keys = {
        "AWS_ACCESS_KEY_ID": object_store.access_key_id,
        "AWS_SECRET_ACCESS_KEY": object_store.secret_access_key,
        "AWS_ENDPOINT_URL": object_store.cluster_endpoint,
    }
    secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "object-store"}, "stringData": keys}
    team = Team(cluster, namespace, inputs, f"s3://{BUCKET}/out/{namespace}-{uuid.uuid4().hex[:6]}")
    team.kubectl("apply", "-f", "-", stdin=json.dumps(secret))
    return team

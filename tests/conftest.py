"""Fixtures of the tests that need the kind cluster. Without one they fail, not skip: a green run has seen a real API server."""

import fcntl
import os
import subprocess
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.config import Config
from hypothesis import settings

# a property is true however slow the machine is
settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")
CACHE = Path(os.environ.get("DISTILLERY_CACHE", Path.home() / ".cache/distillery"))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What takes minutes first, and last what the others would have to wait for."""
    items.sort(key=lambda item: 2 if item.get_closest_marker("alone") else 0 if "/e2e/" in item.nodeid else 1)


@contextmanager
def one_at_a_time(what: str, shared: bool = False) -> Iterator[None]:
    """Among the processes that test on this cluster; `shared`: beside others who share, and not beside one who does not."""
    with (CACHE / f"lock-{what}-{os.environ.get('CLUSTER_NAME', 'distillery')}").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_SH if shared else fcntl.LOCK_EX)
        yield


@pytest.fixture(autouse=True)
def turn(request: pytest.FixtureRequest) -> Iterator[None]:
    """Several processes test on one cluster side by side; a test marked `alone` has it to itself while it runs."""
    if request.node.get_closest_marker("cluster") is None:
        yield
        return
    with one_at_a_time("tests", shared=request.node.get_closest_marker("alone") is None):
        yield


@dataclass(frozen=True)
class Cluster:
    """A running cluster: `kubeconfig` reaches it, `kubectl` and `helm` run one command against it."""

    kubeconfig: Path

    def kubectl(self, *arguments: str, stdin: str | None = None) -> str:
        """The command's standard output; CalledProcessError, with kubectl's words as a note, where it fails."""
        return self._run("kubectl", *arguments, stdin=stdin)

    def helm(self, *arguments: str) -> str:
        """The same for a command of helm on the chart's release."""
        return self._run("helm", "--namespace=distillery-system", *arguments)

    def _run(self, program: str, *arguments: str, stdin: str | None = None) -> str:
        command = [program, f"--kubeconfig={self.kubeconfig}", *arguments]
        try:
            return subprocess.run(command, input=stdin, check=True, capture_output=True, text=True, timeout=300).stdout
        except subprocess.CalledProcessError as error:
            error.add_note(error.stdout + error.stderr)
            raise


@dataclass(frozen=True)
class ObjectStore:
    """The S3 server of tests/kind/s3.yaml: `endpoint` from the host, `cluster_endpoint` from pods."""

    endpoint: str
    cluster_endpoint: str
    access_key_id: str
    secret_access_key: str


@pytest.fixture(scope="session")
def kubeconfig() -> Path:
    """The kubeconfig of the cluster that `make cluster-up` made, or that CLUSTER=existing names by KUBECONFIG."""
    if os.environ.get("CLUSTER") == "existing":
        return Path(os.environ["KUBECONFIG"])
    return CACHE / f"kubeconfig-{os.environ.get('CLUSTER_NAME', 'distillery')}"


@pytest.fixture(scope="session")
def cluster(kubeconfig: Path) -> Cluster:
    """A cluster whose API server answers."""
    found = Cluster(kubeconfig)
    try:
        found.kubectl("get", "--raw", "/readyz", "--request-timeout=20s")
    except (subprocess.SubprocessError, OSError) as error:
        pytest.fail(f"no cluster answers at {kubeconfig}; run `make cluster-up`: {error}", pytrace=False)
    return found


@pytest.fixture(scope="session")
def object_store(cluster: Cluster) -> ObjectStore:
    """The S3 server in the cluster; S3_ENDPOINT says where the host reaches it, if not on the port of kind-config.yaml."""
    cluster.kubectl("-n", "distillery-s3", "rollout", "status", "deployment/s3", "--timeout=120s")
    port = os.environ.get("S3_PORT", "19000")
    return ObjectStore(
        endpoint=os.environ.get("S3_ENDPOINT", f"http://127.0.0.1:{port}"),
        cluster_endpoint="http://s3.distillery-s3:9000",
        access_key_id="distillery",
        secret_access_key="distillery-test-only",
    )


@pytest.fixture(scope="session")
def s3(object_store: ObjectStore) -> Any:
    """A client of the object store, from the host; no retries, which would hide a lost answer."""
    return boto3.client(
        "s3",
        endpoint_url=object_store.endpoint,
        aws_access_key_id=object_store.access_key_id,
        aws_secret_access_key=object_store.secret_access_key,
        region_name="us-east-1",
        config=Config(retries={"total_max_attempts": 1}, s3={"addressing_style": "path"}),
    )


@pytest.fixture
def bucket(s3: Any) -> Iterator[str]:
    """A new bucket, emptied and deleted afterwards."""
    name = f"test-{uuid.uuid4().hex[:8]}"
    s3.create_bucket(Bucket=name)
    yield name
    for item in s3.list_objects_v2(Bucket=name).get("Contents", []):
        s3.delete_object(Bucket=name, Key=item["Key"])
    s3.delete_bucket(Bucket=name)


@pytest.fixture
def namespace(cluster: Cluster) -> Iterator[str]:
    """A new namespace that enforces Pod Security `restricted`, deleted afterwards (without waiting)."""
    name = f"test-{uuid.uuid4().hex[:8]}"
    cluster.kubectl("create", "namespace", name)
    cluster.kubectl("label", "namespace", name, "pod-security.kubernetes.io/enforce=restricted")
    yield name
    cluster.kubectl("delete", "namespace", name, "--wait=false")

"""The operator as a process on the test's machine, in a namespace of its own."""

import json
import os
import signal
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import yaml
from prometheus_client.parser import text_string_to_metric_families
from tests.conftest import Cluster
from tests.e2e.waiting import eventually

MINIMAL = Path(__file__).parents[2] / "examples/minimal.yaml"


def free_port() -> int:
    """A port that nobody listens on now."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


class Replica:
    """One process. It watches `namespace`, where its Lease lies too."""

    def __init__(self, kubeconfig: Path, namespace: str, identity: str, log: Path) -> None:
        self.identity, self.log, self.port = identity, log, free_port()
        flags = {
            "trainer-image": "example/trainer:none",
            "namespaces": namespace,
            "lease-namespace": namespace,
            "identity": identity,
            "http-port": self.port,
        }
        command = [sys.executable, "-m", "distillery", *(f"--{name}={value}" for name, value in flags.items())]
        with log.open("ab") as output:
            self.process = subprocess.Popen(command, env={**os.environ, "KUBECONFIG": str(kubeconfig)}, stderr=output)

    def metric(self, name: str) -> float:
        """The sum of a metric over its labels; 0 where the process does not answer."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/metrics", timeout=2) as response:
                families = text_string_to_metric_families(response.read().decode())
        except OSError:
            return 0
        return sum(sample.value for family in families for sample in family.samples if sample.name == name)

    def leads(self) -> bool:
        """Whether it says that it leads."""
        return self.metric("distillery_leader") == 1

    def wait(self, until: Callable[[], object], what: str, seconds: float) -> None:
        """Until something holds; fails with the log."""
        eventually(until, f"{self.identity}: {what}", seconds, self.log.read_text)

    def signal(self, number: signal.Signals) -> None:
        """Send a signal."""
        self.process.send_signal(number)

    def exit_code(self, seconds: float) -> int:
        """Its exit code; subprocess.TimeoutExpired if it does not end."""
        return self.process.wait(timeout=seconds)


Start = Callable[[str], Replica]


@contextmanager
def replicas(kubeconfig: Path, namespace: str, folder: Path) -> Iterator[Start]:
    """Start replicas; what still runs at the end is killed."""
    started: list[Replica] = []

    def start(identity: str) -> Replica:
        started.append(Replica(kubeconfig, namespace, identity, folder / f"{identity}.log"))
        return started[-1]

    try:
        yield start
    finally:
        for replica in started:
            replica.process.kill()
            replica.process.wait()


def apply_suspended_job(cluster: Cluster, namespace: str, name: str) -> None:
    """A job of which only the status will be written: whoever else watches this namespace starts nothing either."""
    job = yaml.safe_load(MINIMAL.read_text().split("\n---", 1)[0])
    job["metadata"] = {"name": name, "namespace": namespace}
    job["spec"]["suspend"] = True
    cluster.kubectl("apply", "-f", "-", stdin=json.dumps(job))

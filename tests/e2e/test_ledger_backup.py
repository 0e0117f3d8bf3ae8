"""The restore drill: a ledger of 100 MiB is copied and comes back in a pod with the gateway's memory and its small /tmp; and the chart's
CronJob copies the real one.
"""

import json
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.conftest import Cluster, ObjectStore
from tests.e2e.test_other_values import installed_with
from tests.e2e.waiting import eventually

pytestmark = pytest.mark.cluster
SYSTEM = "distillery-system"
POD = Path(__file__).parents[2] / "docs/restore-pod.yaml"
#: Fills the ledger of the environment with answers that do not compress.
FILL = """
import asyncio, os, random
from datetime import UTC, datetime
from distillery.gateway.ledger import Answer, Hold, Ledger, accounts_of, hold_id

async def main(count=6000, length=18000):
    at, rolls = datetime.now(UTC), random.Random(1)
    ledger = await Ledger.open(os.environ["DISTILLERY_LEDGER"], at)
    accounts = accounts_of("nlp/team", "job", {"total": 10**12}, {}, at)
    async def bought(number):
        hold = Hold(hold_id(at), "nlp/team", "job", "t", 100, 10, accounts, f"{number:064x}", at, "terms", "prices")
        await ledger.hold(hold)
        await ledger.settle(hold.id, 90, 5, 5, at, Answer(hold.request_key, rolls.randbytes(length)))
    for start in range(0, count, 500):
        await asyncio.gather(*(bought(number) for number in range(start, start + 500)))
    await ledger.close()

asyncio.run(main())
"""


class Drill:
    """The pod of docs/restore-pod.yaml, in a namespace and on a volume of its own."""

    def __init__(self, cluster: Cluster, namespace: str) -> None:
        self._cluster, self._namespace = cluster, namespace

    def run(self, *command: str) -> str:
        """What a command in it prints."""
        return self._cluster.kubectl("-n", self._namespace, "exec", "ledger-restore", "--", *command)

    def ledger(self, *arguments: str) -> dict[str, Any]:
        """What `distillery-gateway ledger` tells."""
        return dict(json.loads(self.run("distillery-gateway", "ledger", *arguments)))


def keys(store: ObjectStore) -> dict[str, str]:
    return {
        "AWS_ACCESS_KEY_ID": store.access_key_id,
        "AWS_SECRET_ACCESS_KEY": store.secret_access_key,
        "AWS_ENDPOINT_URL": store.cluster_endpoint,
    }


def secret(cluster: Cluster, namespace: str, store: ObjectStore) -> None:
    body = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "ledger-backup"}, "stringData": keys(store)}
    cluster.kubectl("-n", namespace, "apply", "-f", "-", stdin=json.dumps(body))


@pytest.fixture
def drill(cluster: Cluster, namespace: str, object_store: ObjectStore) -> Drill:
    image = cluster.kubectl(
        "-n", SYSTEM, "get", "deployment", "distillery-gateway", "-o", "jsonpath={.spec.template.spec.containers[0].image}"
    )
    secret(cluster, namespace, object_store)
    size = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}
    claim = {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": "distillery-ledger"}, "spec": size}
    cluster.kubectl("-n", namespace, "apply", "-f", "-", stdin=json.dumps(claim))
    pod = POD.read_text().replace("OPERATOR_IMAGE", image).replace(f"namespace: {SYSTEM}", f"namespace: {namespace}")
    cluster.kubectl("apply", "-f", "-", stdin=pod)
    cluster.kubectl("-n", namespace, "wait", "--for=condition=Ready", "pod/ledger-restore", "--timeout=120s")
    return Drill(cluster, namespace)


def test_a_ledger_of_100_mib_is_copied_and_comes_back(drill: Drill, bucket: str) -> None:
    """In the gateway's memory (512 MiB) and /tmp (64 MiB); afterwards it is the same, private, and grants nothing until it is accepted."""
    drill.run("python3", "-c", FILL)
    before, size = drill.ledger("verify"), int(drill.run("stat", "-c", "%s", "/var/lib/distillery/ledger.db"))
    assert size > 100 << 20
    started = time.monotonic()
    drill.ledger("backup", "--to", f"s3://{bucket}/ledger/")
    copied = time.monotonic()
    drill.run("sh", "-c", "cd /var/lib/distillery && mkdir -p old && mv ledger.db* old/")
    assert drill.ledger("restore", "--from", f"s3://{bucket}/ledger/")["readOnly"] is True
    print(f"\n{size >> 20} MiB: copied in {copied - started:.0f} s, back in {time.monotonic() - copied:.0f} s")
    after = drill.ledger("verify")
    assert (after["entries"], after["head"], after["faults"]) == (before["entries"], before["head"], 0)
    assert drill.run("stat", "-c", "%a", "/var/lib/distillery/ledger.db").strip() == "600"
    assert drill.run("sh", "-c", "du -sk /tmp | cut -f1").strip() in ("0", "4")
    command, second = "distillery-gateway ledger", "--database sqlite:////var/lib/distillery/second.db"
    piped = f"{command} backup --to - | {command} restore {second} --from -"
    assert '"readOnly": true' in drill.run("sh", "-c", piped)


@pytest.fixture
def scheduled(cluster: Cluster, object_store: ObjectStore, bucket: str) -> Iterator[str]:
    """The release with its CronJob on; gives the folder of copies."""
    secret(cluster, SYSTEM, object_store)
    folder = f"s3://{bucket}/ledger/"
    values = ("enabled=true", f"to={folder}", "secret=ledger-backup", "keep=2", "schedule=0 0 1 1 *")
    with installed_with(cluster, *(f"--set=gateway.ledger.backup.{value}" for value in values)):
        yield folder
    cluster.kubectl("-n", SYSTEM, "delete", "secret", "ledger-backup")


@pytest.mark.alone
def test_the_cronjob_copies_the_gateways_ledger_and_keeps_so_many(
    cluster: Cluster, scheduled: str, drill: Drill, bucket: str, s3: Any
) -> None:
    """Three runs, of which two copies stay; the newest one comes back whole, with all that was booked when it was taken."""
    gateway = ("-n", SYSTEM, "exec", "deployment/distillery-gateway", "--", "distillery-gateway", "ledger", "verify")
    before = json.loads(cluster.kubectl(*gateway))
    for _ in range(3):
        name = f"backup-{uuid.uuid4().hex[:6]}"
        cluster.kubectl("-n", SYSTEM, "create", "job", name, "--from=cronjob/distillery-backup")

        def succeeded(name: str = name) -> bool:
            status = json.loads(cluster.kubectl("-n", SYSTEM, "get", "job", name, "-o", "json")).get("status", {})
            return bool(status.get("succeeded"))

        eventually(succeeded, f"{name} to succeed", 180, lambda name=name: cluster.kubectl("-n", SYSTEM, "describe", "job", name))
        cluster.kubectl("-n", SYSTEM, "delete", "job", name)
    copies = [item["Key"] for item in s3.list_objects_v2(Bucket=bucket)["Contents"]]
    assert len(copies) == 2
    restored = drill.ledger("restore", "--from", scheduled)
    assert restored["entries"] >= before["entries"]
    assert drill.ledger("verify")["faults"] == 0

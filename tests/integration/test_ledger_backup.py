"""A ledger of more than 100 MiB is copied and comes back: in little memory, with no room beside it, while the gateway goes on.

`-s` prints sizes, seconds and memory. The store's part needs the S3 server of the cluster; the whole drill in a pod is tests/e2e.
"""

import asyncio
import json
import os
import random
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import pytest
from tests.conftest import ObjectStore
from tests.unit.ledger.wallet import NOON, Wallet

from distillery.gateway.ledger import Answer, Ledger, LedgerError, backup, commands, reading
from distillery.gateway.ledger.dump import Header
from distillery.gateway.vault import Vault

MIB = 1 << 20
ANSWERS, LENGTH = 6000, 18_000
#: What a process of it may write to files, in bytes: the index beside a database's log, and no copy of anything.
ROOM = 64 * 1024
#: The gateway has 512 MiB, and the CronJob's pod 256.
MOST_MEMORY = 160 * MIB


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The URL of a ledger with that many answers, as a busy month leaves it."""
    folder = tmp_path_factory.mktemp("large")
    asyncio.run(_filled(f"sqlite:///{folder}/ledger.db"))
    assert (folder / "ledger.db").stat().st_size > 100 * MIB
    return f"sqlite:///{folder}/ledger.db"


async def _filled(url: str) -> None:
    ledger, wallet, rolls = await Ledger.open(url, NOON), Wallet(usd={"total": 10**12}), random.Random(1)

    async def bought(number: int) -> None:
        hold = wallet.hold(100, uid=f"job-{number % 20}")
        await ledger.hold(hold)
        await ledger.settle(hold.id, 90, 10, 10, NOON, Answer(f"{number:064x}", rolls.randbytes(LENGTH)))

    for start in range(0, ANSWERS, 500):
        await asyncio.gather(*(bought(number) for number in range(start, start + 500)))
    await ledger.close()


#: Runs a command and leaves its peak of memory in a file. The kernel counts what a process held before its exec, too, and the child of a
#: test's worker begins as a copy of the worker: so a small process stands between.
MEASURED = """
import resource, subprocess, sys
code = subprocess.call(sys.argv[2:])
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024, file=open(sys.argv[1], "w"))
sys.exit(code)
"""


@dataclass
class Run:
    """One command of `distillery-gateway ledger` as a process."""

    process: subprocess.Popen[bytes]
    started: float
    peak: Path

    @classmethod
    def of(cls, *arguments: str, room: int | None = None, **more: Any) -> "Run":
        """Started; it may write files of `room` bytes at most."""

        def bounded() -> None:
            if room is not None:
                resource.setrlimit(resource.RLIMIT_FSIZE, (room, room))

        peak = Path(tempfile.mkdtemp()) / "peak"
        command = [sys.executable, "-c", MEASURED, str(peak), sys.executable, "-m", "distillery.gateway", "ledger", *arguments]
        environment = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1", **more.pop("environment", {})}
        return cls(subprocess.Popen(command, preexec_fn=bounded, env=environment, **more), time.monotonic(), peak)

    def ended(self, what: str) -> None:
        """Wait for it: it went well, in little memory."""
        code, took = self.process.wait(), time.monotonic() - self.started
        assert code == 0
        peak = int(self.peak.read_text())
        shutil.rmtree(self.peak.parent)
        print(f"\n  {what}: {took:.1f} s, {peak / MIB:.0f} MiB", end="")
        assert peak < MOST_MEMORY


def head(url: str) -> Any:
    with backup.snapshot(url) as connection:
        return reading.head(connection)


def piped(run: Run) -> IO[bytes]:
    assert run.process.stdout is not None
    return run.process.stdout


async def test_a_stream_from_one_ledger_into_another(large: str, tmp_path: Path) -> None:
    """As `kubectl exec … backup --to -` into another pod's `restore --from -`. The gateway books meanwhile."""
    gateway, wallet = await Ledger.open(large, NOON), Wallet(usd={"total": 10**12})
    before = head(large).sequence
    copy = f"sqlite:///{tmp_path}/restored.db"
    source = Run.of("backup", "--database", large, "--to", "-", room=ROOM, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    target = Run.of("restore", "--database", copy, "--from", "-", stdin=piped(source), stdout=subprocess.PIPE)
    piped(source).close()
    slowest, booked = 0.0, 0
    while source.process.poll() is None and target.process.poll() is None and booked < 2000:
        began = time.monotonic()
        await gateway.hold(wallet.hold(1))
        slowest, booked = max(slowest, time.monotonic() - began), booked + 1
    await asyncio.to_thread(target.ended, "restore --from -")
    assert source.process.wait() == 0
    told = json.loads(piped(target).read())
    assert before <= told["entries"] <= head(large).sequence
    print(f"\n  {booked} holds meanwhile, the slowest {slowest * 1000:.0f} ms", end="")
    Run.of("verify", "--database", copy, stdout=subprocess.PIPE).ended("verify")
    assert head(copy).digest == told["head"]
    await gateway.close()


def test_a_file_is_the_only_thing_that_is_written(large: str, tmp_path: Path) -> None:
    (tmp_path / "tmp").mkdir()
    environment = {"TMPDIR": str(tmp_path / "tmp")}
    Run.of("backup", "--database", large, "--to", str(tmp_path / "copy.gz"), environment=environment, stdout=subprocess.PIPE).ended(
        "backup"
    )
    assert {path.name for path in tmp_path.rglob("*")} == {"tmp", "copy.gz"}
    sizes = [path.stat().st_size / MIB for path in (Path(large.removeprefix("sqlite:///")), tmp_path / "copy.gz")]
    print(f"\n  a ledger of {sizes[0]:.0f} MiB: a copy of {sizes[1]:.0f} MiB", end="")
    Run.of("backup", "--database", large, "--to", "-", room=ROOM, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE).ended("backup --to -")


@pytest.fixture
def keys(object_store: ObjectStore) -> Mapping[str, str]:
    """What the Secret of gateway.ledger.backup gives."""
    return {
        "AWS_ACCESS_KEY_ID": object_store.access_key_id,
        "AWS_SECRET_ACCESS_KEY": object_store.secret_access_key,
        "AWS_ENDPOINT_URL": object_store.endpoint,
    }


def listed(s3: Any, bucket: str) -> list[str]:
    return sorted(item["Key"] for item in s3.list_objects_v2(Bucket=bucket).get("Contents", ()))


@pytest.mark.cluster
def test_into_an_object_store_and_back(large: str, keys: Mapping[str, str], bucket: str, s3: Any, tmp_path: Path) -> None:
    """In parts, without a file; of a folder the newest copy comes back."""
    folder, copy = f"s3://{bucket}/ledger/", f"sqlite:///{tmp_path}/restored.db"
    Run.of("backup", "--database", large, "--to", folder, room=ROOM, environment=keys, stdout=subprocess.PIPE).ended(
        f"backup --to {folder}"
    )
    [name] = listed(s3, bucket)
    assert name.startswith("ledger/ledger-")
    assert name.endswith("Z.jsonl.gz")
    assert not s3.list_multipart_uploads(Bucket=bucket).get("Uploads")
    Run.of("restore", "--database", copy, "--from", folder, environment=keys, stdout=subprocess.PIPE).ended(f"restore --from {folder}")
    Run.of("verify", "--database", copy, stdout=subprocess.PIPE).ended("verify")
    assert head(copy) == head(large)


@pytest.fixture
def small(tmp_path: Path) -> str:
    """The URL of a ledger with one purchase."""

    async def filled() -> None:
        ledger, wallet = await Ledger.open(f"sqlite:///{tmp_path}/small.db", NOON), Wallet(usd={"total": 1000})
        await ledger.hold(wallet.hold(1))
        await ledger.close()

    asyncio.run(filled())
    return f"sqlite:///{tmp_path}/small.db"


@pytest.mark.cluster
def test_retention_deletes_what_it_wrote_itself_and_nothing_else(
    small: str, keys: Mapping[str, str], bucket: str, s3: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in keys.items():
        monkeypatch.setenv(name, value)
    with backup.snapshot(small) as connection:
        mine = next(reading.entries(connection, 0, 1)).digest[:12]

    def put(key: str, ledger: str | None) -> str:
        s3.put_object(Bucket=bucket, Key=key, Body=b"x", Metadata={} if ledger is None else {"distillery-ledger": ledger})
        return key

    old = [put(f"copies/ledger-{mine}-2025010{day}T000000Z.jsonl.gz", mine) for day in range(1, 5)]
    kept = [
        put(f"copies/ledger-{mine}-20240101T000000Z.jsonl.gz", None),
        put(f"copies/ledger-{mine}-20240102T000000Z.jsonl.gz", "another's"),
        put("copies/ledger-0123456789ab-20240101T000000Z.jsonl.gz", "0123456789ab"),
        put(f"copies/ledger-{mine}-20240101T000000Z.jsonl.gz.keep", mine),
        put(f"copies/deeper/ledger-{mine}-20240101T000000Z.jsonl.gz", mine),
        put(f"other/ledger-{mine}-20240101T000000Z.jsonl.gz", mine),
        put("copies/notes.txt", mine),
    ]
    arguments = ["backup", "--database", small, "--to", f"s3://{bucket}/copies/", "--keep", "2"]
    assert commands.main(arguments, lambda: Vault(os.environ)) == 0
    found = set(listed(s3, bucket))
    [new] = found - {*old, *kept}
    assert found == {new, old[-1], *kept}


@pytest.mark.cluster
def test_a_copy_that_breaks_off_leaves_no_object(bucket: str, keys: Mapping[str, str], s3: Any) -> None:
    def broken() -> Any:
        yield os.urandom(20 * MIB)
        raise LedgerError("cut off")

    header = Header(1, "0123456789ab", "2026-11-24T12:00:00", 1, "x")
    vault = Vault({})
    vault.__dict__["_client"] = s3
    with pytest.raises(LedgerError, match="cut off"):
        vault.write(f"s3://{bucket}/one", broken(), header)
    assert listed(s3, bucket) == []
    assert not s3.list_multipart_uploads(Bucket=bucket).get("Uploads")

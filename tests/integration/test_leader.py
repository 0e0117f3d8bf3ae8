"""R9: who leads when a leader is killed, stopped, paused or cut off, with real processes and a real Lease."""

import asyncio
import json
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import yaml
from tests.conftest import Cluster
from tests.integration.replica import Replica, Start, apply_suspended_job, replicas

pytestmark = [pytest.mark.cluster, pytest.mark.alone]


@pytest.fixture
def start(cluster: Cluster, namespace: str, tmp_path: Path) -> Iterator[Start]:
    with replicas(cluster.kubeconfig, namespace, tmp_path) as found:
        yield found


@pytest.fixture
def pair(start: Start) -> tuple[Replica, Replica]:
    """A leader and a standby, both of them ready."""
    leader = start("first")
    leader.wait(leader.leads, "leads", 30)
    standby = start("second")
    standby.wait(lambda: standby.metric("distillery_api_requests_total") > 2, "looks at the Lease", 30)
    assert not standby.leads()
    return leader, standby


def lease(cluster: Cluster, namespace: str) -> dict[str, object]:
    return dict(json.loads(cluster.kubectl("-n", namespace, "get", "lease", "distillery-operator", "-o", "json"))["spec"])


def test_a_killed_leader_is_followed_within_20_seconds(pair: tuple[Replica, Replica], cluster: Cluster, namespace: str) -> None:
    leader, standby = pair
    leader.signal(signal.SIGKILL)
    killed = time.monotonic()
    apply_suspended_job(cluster, namespace, "waiting")
    standby.wait(lambda: standby.metric("distillery_reconcile_total") > 0, "acts", 30)
    print(f"\nnext action {time.monotonic() - killed:.1f} s after SIGKILL")
    assert time.monotonic() - killed <= 20


def test_a_stopped_leader_ends_well_and_is_followed_within_3_seconds(pair: tuple[Replica, Replica]) -> None:
    leader, standby = pair
    leader.signal(signal.SIGTERM)
    stopped = time.monotonic()
    assert leader.exit_code(3) == 0
    ended = time.monotonic() - stopped
    standby.wait(standby.leads, "leads", 5)
    print(f"\nended {ended:.1f} s, followed {time.monotonic() - stopped:.1f} s after SIGTERM")
    assert ended <= 3
    assert time.monotonic() - stopped <= 4.5, "the Lease is tried every two seconds"


def test_a_paused_leader_that_wakes_does_no_harm(pair: tuple[Replica, Replica], cluster: Cluster, namespace: str) -> None:
    leader, standby = pair
    apply_suspended_job(cluster, namespace, "waiting")
    leader.wait(lambda: leader.metric("distillery_reconcile_total") > 0, "has looked at the job", 10)
    leader.signal(signal.SIGSTOP)
    standby.wait(standby.leads, "leads", 30)
    standby.wait(lambda: standby.metric("distillery_reconcile_total") > 0, "has looked at the job", 10)
    leader.signal(signal.SIGCONT)
    assert leader.exit_code(10) == 1, "it must be started afresh"
    assert "leadership lost" in leader.log.read_text()
    assert standby.leads()
    assert lease(cluster, namespace)["holderIdentity"] == "second", "what another holds is not released"


def test_a_standby_that_is_stopped_takes_nothing_with_it(pair: tuple[Replica, Replica], cluster: Cluster, namespace: str) -> None:
    leader, standby = pair
    standby.signal(signal.SIGTERM)
    assert standby.exit_code(3) == 0
    assert lease(cluster, namespace)["holderIdentity"] == "first"
    assert leader.leads()


class Wire:
    """A TCP proxy to the API server that can be cut."""

    def __init__(self, host: str, port: int) -> None:
        self._target = (host, port)
        self._open: set[asyncio.StreamWriter] = set()
        self._loop = asyncio.new_event_loop()
        threading.Thread(target=self._loop.run_forever, daemon=True).start()
        self._server: asyncio.Server | None = None
        self.port = 0
        self.mend()

    def mend(self) -> None:
        """Let connections through (again)."""
        asyncio.run_coroutine_threadsafe(self._listen(), self._loop).result(10)

    def cut(self) -> None:
        """Refuse new connections and end the open ones."""
        asyncio.run_coroutine_threadsafe(self._close(), self._loop).result(10)

    async def _listen(self) -> None:
        self._server = await asyncio.start_server(self._pass, "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]

    async def _close(self) -> None:
        assert self._server is not None
        self._server.close()
        for writer in self._open:
            writer.transport.abort()
        self._open.clear()

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        far_reader, far_writer = await asyncio.open_connection(*self._target)
        self._open |= {writer, far_writer}

        async def copy(source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
            try:
                while data := await source.read(65536):
                    target.write(data)
                    await target.drain()
            except OSError:
                target.transport.abort()
            target.close()

        await asyncio.gather(copy(reader, far_writer), copy(far_reader, writer))


@pytest.fixture
def wire(cluster: Cluster, tmp_path: Path) -> tuple[Wire, Path]:
    """The proxy, and a kubeconfig that goes through it."""
    config = yaml.safe_load(cluster.kubectl("config", "view", "--raw", "--minify", "--flatten"))
    server = urlsplit(config["clusters"][0]["cluster"]["server"])
    found = Wire(str(server.hostname), server.port or 443)
    config["clusters"][0]["cluster"] |= {"server": f"https://localhost:{found.port}"}
    (tmp_path / "kubeconfig").write_text(yaml.safe_dump(config))
    return found, tmp_path / "kubeconfig"


@pytest.mark.slow
def test_an_outage_of_the_api_server_is_waited_out(cluster: Cluster, namespace: str, tmp_path: Path, wire: tuple[Wire, Path]) -> None:
    """R10, short: the leader steps back, its successor waits for the API server without ending, and goes on when it is back."""
    proxy, kubeconfig = wire
    with replicas(kubeconfig, namespace, tmp_path) as start:
        before = start("before")
        before.wait(before.leads, "leads", 30)
        proxy.cut()
        assert before.exit_code(15) == 1, "a leader that cannot renew steps back"
        after = start("after")
        apply_suspended_job(cluster, namespace, "waiting")
        after.wait(lambda: "the API server does not answer" in after.log.read_text(), "waits", 30)
        proxy.mend()
        mended = time.monotonic()
        after.wait(lambda: after.metric("distillery_reconcile_total") > 0, "acts", 60)
        print(f"\nnext action {time.monotonic() - mended:.1f} s after the outage")
        assert after.process.poll() is None

"""B5: our gateway beside the LiteLLM proxy, on the same teacher in one run. `python -m tests.bench.gateway [seconds]`.

Requests per second, latency added to that of the teacher, and what 256 clients spend of a small budget. Figures are printed, nothing is
asserted. LiteLLM stays in an environment of its own and keeps its budgets in memory here, its fastest way (with its database every key and
spend is a row in Postgres); ours commits each hold and each settlement to SQLite with synchronous=FULL: on the disk, and in a second column
on one in memory, which tells software from fsync. Each is one process.
"""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import yaml
from tests.bench.clients import Heard, Target, ask, calls
from tests.bench.mock_teacher import COMPLETION_TOKENS, PROMPT_TOKENS
from tests.bench.our_gateway import token

HERE = Path(__file__).parent
#: Not 1.82.7 or 1.82.8, which were published by a thief.
LITELLM = "1.108.7"
ENVIRONMENT = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / f"distillery/bench-litellm-{LITELLM}"
LIMIT = 0.02
DOLLARS = (PROMPT_TOKENS * 1.0 + COMPLETION_TOKENS * 4.0) / 1e6
SMALL, WIDE, RUSH = 2, 64, 256
KEY = "sk-bench"


@dataclass(frozen=True)
class Measured:
    """One gateway's figures. Latencies in milliseconds, money in dollars."""

    name: str
    rate: float
    rush_rate: float
    p50: float
    p99: float
    cpu: float
    memory: float
    granted: int
    spent: float


def environment() -> Path:
    """The environment of LiteLLM, made once."""
    python = ENVIRONMENT / "bin/python"
    if not (ENVIRONMENT / ".complete").exists():
        print(f"installing litellm[proxy]=={LITELLM} into {ENVIRONMENT}", flush=True)
        subprocess.run([sys.executable, "-m", "venv", "--clear", ENVIRONMENT], check=True)
        subprocess.run([python, "-m", "pip", "install", "-q", f"litellm[proxy]=={LITELLM}"], check=True)
        (ENVIRONMENT / ".complete").touch()
    return python


@contextmanager
def running(command: Sequence[str | Path], log: Path, **variables: str) -> Iterator[subprocess.Popen[bytes]]:
    """A process that is ended with the block."""
    with log.open("wb") as errors:
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors, env=os.environ | variables)
    try:
        yield process
    finally:
        process.terminate()
        process.wait(15)


def told_port(process: subprocess.Popen[bytes]) -> int:
    """The port that it prints first."""
    assert process.stdout is not None
    return int(process.stdout.readline())


def free_port() -> int:
    """One that nobody listens on; LiteLLM wants to be told its port."""
    with socket.create_server(("127.0.0.1", 0)) as found:
        port: int = found.getsockname()[1]
    return port


def litellm_config(teacher: int) -> str:
    """One model per delay, priced as for us; the small budget is that of a deployment, the others' are large."""

    def model(name: str, delay: str, budget: float) -> dict[str, object]:
        priced = {"input_cost_per_token": 1e-6, "output_cost_per_token": 4e-6, "max_budget": budget, "budget_duration": "30d"}
        base = f"http://127.0.0.1:{teacher}/{delay}/v1"
        return {"model_name": name, "litellm_params": {"model": "openai/mock", "api_base": base, "api_key": "none", **priced}}

    models = [model("d0", "d0", 1e5), model("d10", "d10", 1e5), model("small", "d50", LIMIT)]
    settings = {"num_retries": 0, "request_timeout": 600, "telemetry": False, "drop_params": True}
    router = {"num_retries": 0, "disable_cooldowns": True}
    return yaml.safe_dump(
        {"model_list": models, "litellm_settings": settings, "router_settings": router, "general_settings": {"master_key": KEY}}
    )


async def serves(target: Target, process: subprocess.Popen[bytes], log: Path, seconds: float = 120) -> None:
    """Wait for the first answer."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        if process.poll() is not None:
            raise SystemExit(f"{target.model}: ended at start:\n{log.read_text()[-2000:]}")
        try:
            if (await ask(target, 1, 5, most=1)).latencies:
                return
        except OSError:
            await asyncio.sleep(0.5)
    raise SystemExit(f"{target.model}: no answer in {seconds:.0f} s:\n{log.read_text()[-2000:]}")


def used(pid: int) -> tuple[float, float]:
    """Seconds of CPU of a process so far, and its memory in MiB."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    ticks = int(fields[11]) + int(fields[12])
    resident = next(int(line.split()[1]) for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith("VmRSS"))
    return ticks / os.sysconf("SC_CLK_TCK"), resident / 1024


def fsync(folder: Path) -> float:
    """Milliseconds that half of the writes of a page and more wait for the disk."""
    taken = []
    with (folder / "page").open("wb", buffering=0) as file:
        for _ in range(100):
            started = time.perf_counter()
            file.write(bytes(4096))
            os.fsync(file.fileno())
            taken.append(time.perf_counter() - started)
    return 1000 * sorted(taken)[50]


async def measure(name: str, port: int, pid: int, teacher: int, direct: Heard, seconds: float, by_model: bool) -> Measured:
    """All figures of one gateway. The job, and with it the teacher, is named by the model (LiteLLM) or by the token (ours)."""

    def target(job: str) -> Target:
        return Target(port, "/v1/chat/completions", KEY if by_model else token(job), job if by_model else "mock")

    await ask(target("d0"), 8, 10, most=300)
    await ask(target("d10"), SMALL, 10, most=50)
    near = await ask(target("d10"), SMALL, seconds)
    before, _ = used(pid)
    wide = await ask(target("d0"), WIDE, seconds)
    after, memory = used(pid)
    rush = await ask(target("d0"), RUSH, seconds)
    bought = await calls(teacher)
    small = await ask(target("small"), RUSH, 60)
    bought = await calls(teacher) - bought
    print(f"{name}: {dict(near.statuses)} {dict(wide.statuses)} {dict(rush.statuses)}, small budget {dict(small.statuses)}", flush=True)
    return Measured(
        name=name,
        rate=wide.rate,
        rush_rate=rush.rate,
        p50=near.at(0.5) - direct.at(0.5),
        p99=near.at(0.99) - direct.at(0.99),
        cpu=1000 * (after - before) / max(1, len(wide.latencies)),
        memory=memory,
        granted=bought,
        spent=bought * DOLLARS,
    )


async def compare(seconds: float) -> list[Measured]:
    """One after the other on the same teacher."""
    python = environment()
    found = []
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        teacher = told_port(stack.enter_context(running([sys.executable, HERE / "mock_teacher.py"], folder / "teacher.log")))
        direct = await ask(Target(teacher, "/d10/v1/chat/completions", KEY, "mock"), SMALL, seconds)
        ceiling = await ask(Target(teacher, "/d0/v1/chat/completions", KEY, "mock"), WIDE, seconds)
        print(f"teacher alone: p50 {direct.at(0.5):.2f} ms, p99 {direct.at(0.99):.2f} ms; {ceiling.rate:.0f} requests/s", flush=True)
        print(f"fsync of the ledger's disk: p50 {fsync(folder):.2f} ms; a request that is bought waits for two", flush=True)
        memory = Path(stack.enter_context(tempfile.TemporaryDirectory(dir="/dev/shm")))
        for name, place in (("distillery", folder), ("ledger in memory", memory)):
            served = [sys.executable, "-m", "tests.bench.our_gateway", str(teacher), f"sqlite:///{place / 'ledger.db'}", f"{LIMIT:.2f}"]
            with running(served, folder / "ours.log") as process:
                port = told_port(process)
                found.append(await measure(name, port, process.pid, teacher, direct, seconds, by_model=False))
        (folder / "litellm.yaml").write_text(litellm_config(teacher))
        port, log = free_port(), folder / "litellm.log"
        options = ["--config", folder / "litellm.yaml", "--port", str(port), "--host", "127.0.0.1", "--num_workers", "1"]
        # its cost map comes with it; otherwise it is fetched at every start
        quiet = {"LITELLM_LOG": "ERROR", "LITELLM_LOCAL_MODEL_COST_MAP": "True", "LITELLM_MODE": "PRODUCTION"}
        with running([python.parent / "litellm", *options], log, **quiet) as process:
            await serves(Target(port, "/v1/chat/completions", KEY, "d0"), process, log)
            found.append(await measure(f"litellm {LITELLM}", port, process.pid, teacher, direct, seconds, by_model=True))
    return found


ROWS = (
    (f"requests/s, {WIDE} clients", lambda m: f"{m.rate:.0f}"),
    (f"requests/s, {RUSH} clients", lambda m: f"{m.rush_rate:.0f}"),
    (f"added p50 ms, {SMALL} clients", lambda m: f"{m.p50:.2f}"),
    (f"added p99 ms, {SMALL} clients", lambda m: f"{m.p99:.2f}"),
    ("CPU ms/request", lambda m: f"{m.cpu:.2f}"),
    ("memory MiB", lambda m: f"{m.memory:.0f}"),
    (f"answers bought of ${LIMIT}", lambda m: str(m.granted)),
    ("overspend $", lambda m: f"{max(0.0, m.spent - LIMIT):.5f}"),
)


def main() -> None:
    """Measure and print."""
    found = asyncio.run(compare(float(sys.argv[1]) if len(sys.argv) > 1 else 10.0))
    print(f"\n{'':<28}" + "".join(f"{m.name:>18}" for m in found))
    for title, figure in ROWS:
        print(f"{title:<28}" + "".join(f"{figure(m):>18}" for m in found))
    print(f"\nan answer costs ${DOLLARS:.5f}; load {os.getloadavg()[0]:.1f} on {os.cpu_count()} CPUs")


if __name__ == "__main__":
    main()

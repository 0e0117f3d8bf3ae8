"""Our gateway on loopback for the benchmark: three jobs, each with a budget and a teacher of its own.

`python -m tests.bench.our_gateway TEACHER_PORT LEDGER_URL LIMIT` prints its port. `d0` and `d10` have a teacher of that many milliseconds
and money for ever, `small` has the limit. PROFILE=file writes what cProfile saw.
"""

import asyncio
import cProfile
import os
import signal
import sys
import time
from urllib.parse import urlsplit

from tests.loopback import Objects, gateway, law

from distillery import logs
from distillery.cluster import Body
from distillery.gateway.credentials import Credentials

BUDGETS = {"d0": ("d0", "100000"), "d10": ("d10", "100000"), "small": ("d50", "")}


def token(job: str) -> str:
    """Of the pod that writes a job's traces."""
    return f"pod:team/{job}/traces"


def manifests(name: str, base_url: str, limit: str) -> list[Body]:
    """The budget and the job."""
    teacher = {
        "name": "mock",
        "baseURL": base_url,
        "model": "mock",
        "templateTokens": 160,
        "prices": {"inputPerMillion": "1.00", "outputPerMillion": "4.00"},
        "terms": {"service": "self-hosted", "weights": "own-weights"},
        "rateLimits": {"maxConcurrency": 4096},
    }
    job = {
        "teacher": {"endpoint": {"teacher": "mock"}},
        "budgetRef": {"name": name},
        "governance": {"declaredUse": {"purpose": "internal", "competes": False}},
    }
    budget = {"limits": {"monthly": limit}, "teachers": [teacher]}
    return [
        {"kind": kind, "metadata": {"name": name}, "spec": spec} for kind, spec in (("TeacherBudget", budget), ("DistillationJob", job))
    ]


async def main(teacher_port: int, ledger_url: str, small: str) -> None:
    """Serve until SIGTERM."""
    stop, objects, urls = asyncio.Event(), Objects(), []
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    for name, (delay, limit) in BUDGETS.items():
        urls.append(f"http://127.0.0.1:{teacher_port}/{delay}/v1")
        for body in manifests(name, urls[-1], limit or small):
            objects.apply(body, "team")
    async with gateway(objects, law(Credentials((), urls, time.monotonic)), ledger_url) as (url, _):
        print(urlsplit(url).port, flush=True)
        await stop.wait()


if __name__ == "__main__":
    logs.configure("warning")
    run = main(int(sys.argv[1]), sys.argv[2], sys.argv[3])
    profile = os.environ.get("PROFILE")
    if profile is None:
        asyncio.run(run)
    else:
        with cProfile.Profile() as profiler:
            asyncio.run(run)
        profiler.dump_stats(profile)

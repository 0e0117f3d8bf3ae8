"""Our gateway on the loopback as it runs in a cluster, but for the API server: its objects stand in this file.

`python tests/bench/our_gateway.py TEACHER_PORT LEDGER_URL LIMIT` prints its port. The token names the job: `d<ms>` has a teacher of that
delay and a large budget, `small` has the limit. PROFILE=file writes what cProfile saw.
"""

from __future__ import annotations

import asyncio
import cProfile
import os
import signal
import sys
import time
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

from distillery.cluster import Body, NotFound
from distillery.gateway.asking import Asking, utc_now
from distillery.gateway.credentials import Credentials
from distillery.gateway.identity import Identities
from distillery.gateway.ledger import Ledger
from distillery.gateway.server import application
from distillery.gateway.standing import Law
from distillery.health import serving
from distillery.metrics import Metrics
from distillery.settings import GATEWAY_AUDIENCE
from distillery.terms import parse_catalogue

TERMS = Path(__file__).parents[2] / "helm/distillery/files/terms.yaml"
API = "distillery.dev/v1alpha1"
PRICES = {"inputPerMillion": "1.00", "outputPerMillion": "4.00"}


def owner(version: str, kind: str, name: str) -> list[Body]:
    """A controller whose uid is its name."""
    return [{"apiVersion": version, "kind": kind, "name": name, "uid": name, "controller": True}]


class ApiServer:
    """Answers as a cluster would in which each token is a stage pod of the job that it names."""

    def __init__(self, teacher_port: int, limit: str) -> None:
        self._port, self._limit = teacher_port, limit

    async def review_token(self, token: str, audience: str) -> Body:
        """The pod has the token's name."""
        extra = {f"authentication.kubernetes.io/{key}": [token] for key in ("pod-name", "pod-uid")}
        user = {"username": "system:serviceaccount:team:default", "extra": extra}
        return {"authenticated": True, "audiences": [GATEWAY_AUDIENCE], "user": user}

    async def get_pod(self, namespace: str, name: str) -> Body:
        """Of the Job with its name."""
        return {"metadata": {"name": name, "uid": name, "ownerReferences": owner("batch/v1", "Job", name)}}

    async def get_child(self, kind: str, namespace: str, name: str) -> Body:
        """Of the DistillationJob with its name."""
        labels = {"distillery.dev/stage": "traces"}
        return {"metadata": {"name": name, "uid": name, "labels": labels, "ownerReferences": owner(API, "DistillationJob", name)}}

    async def get_job(self, namespace: str, name: str) -> Body:
        """Paid by the budget with its name."""
        spec = {
            "teacher": {"endpoint": {"teacher": "mock"}},
            "budgetRef": {"name": name},
            "governance": {"declaredUse": {"purpose": "internal", "competes": False}},
        }
        return {"metadata": {"name": name, "uid": name, "generation": 1}, "spec": spec}

    async def get_budget(self, namespace: str, name: str) -> Body:
        """Large, or with the limit."""
        if not name:
            raise NotFound(404, "NotFound", name)
        delay = "d50" if name == "small" else name
        teacher: dict[str, Any] = {
            "name": "mock",
            "baseURL": f"http://127.0.0.1:{self._port}/{delay}/v1",
            "model": "mock",
            "prices": PRICES,
            "terms": {"service": "self-hosted", "weights": "own-weights"},
            "rateLimits": {"maxConcurrency": 4096},
        }
        spec = {"limits": {"monthly": self._limit if name == "small" else "100000"}, "teachers": [teacher]}
        return {"metadata": {"name": name, "uid": name, "generation": 1}, "spec": spec}


async def main(teacher_port: int, ledger_url: str, limit: str) -> None:
    """Serve until SIGTERM."""
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    server, metrics = ApiServer(teacher_port, limit), Metrics()
    open_urls = [f"http://127.0.0.1:{teacher_port}/{delay}/v1" for delay in ("d0", "d10", "d50")]
    law = Law(parse_catalogue(TERMS.read_text()), Credentials((), open_urls, time.monotonic))
    async with AsyncExitStack() as stack:
        ledger = await Ledger.open(ledger_url, utc_now())
        identities = Identities(server, time.monotonic)
        asking = Asking.of(identities, server, law, ledger, ("distillery-system", "operator"), time.monotonic, metrics)
        stack.push_async_callback(asking.close, 5.0)
        port = await stack.enter_async_context(serving(application(asking.routes), "127.0.0.1", 0))
        upkeep = asyncio.create_task(asking.run())
        print(port, flush=True)
        await stop.wait()
        upkeep.cancel()


if __name__ == "__main__":
    run = main(int(sys.argv[1]), sys.argv[2], sys.argv[3])
    profile = os.environ.get("PROFILE")
    if profile is None:
        asyncio.run(run)
    else:
        with cProfile.Profile() as profiler:
            asyncio.run(run)
        profiler.dump_stats(profile)

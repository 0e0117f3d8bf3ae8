"""The gateway on loopback, without a cluster: the real server and ledger, and an API server's objects in memory.

    python -m tests.loopback --budget examples/endpoint/budget.yaml --job examples/endpoint/job.yaml \
        --ledger sqlite:////tmp/ledger.db --base-url http://127.0.0.1:18123/v1

Tokens are plain words: `operator` is the operator's, `pod:<namespace>/<job>/<stage>` or `pod:<namespace>/<job>/<stage>/<shard>` a stage
pod's of any job that is there.
"""

import argparse
import asyncio
import signal
import sys
import time
from collections.abc import AsyncIterator, Callable, Collection
from contextlib import asynccontextmanager
from datetime import datetime
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from distillery import logs
from distillery.cluster import Body, NotFound, Unavailable
from distillery.gateway.assembly import Asking, utc_now
from distillery.gateway.credentials import Credentials
from distillery.gateway.door import Door
from distillery.gateway.identity import Identities
from distillery.gateway.ledger import Ledger
from distillery.gateway.progress import ProgressEndpoint
from distillery.gateway.reports import Reports
from distillery.gateway.server import application
from distillery.gateway.standing import Law
from distillery.health import serving
from distillery.metrics import Metrics
from distillery.settings import GATEWAY_AUDIENCE
from distillery.terms import Catalogue, parse_catalogue

OPERATOR = ("distillery", "operator")
CATALOGUE = Path(__file__).parent.parent / "helm/distillery/files/terms.yaml"
_OURS = "distillery.dev/v1alpha1"


class Objects:
    """What the gateway reads of an API server. Change `jobs` and `budgets` (by namespace and name) as users would."""

    def __init__(self) -> None:
        self.jobs: dict[tuple[str, str], Body] = {}
        self.budgets: dict[tuple[str, str], Body] = {}
        self.tokens: dict[str, Body] = {}
        self.changes: dict[str, Body | None] = {}
        self.down = False

    def apply(self, body: Body, namespace: str = "default") -> None:
        """Create or replace a DistillationJob or a TeacherBudget; a changed spec gets the next generation."""
        kind, name = body["kind"], body["metadata"]["name"]
        namespace = body["metadata"].get("namespace", namespace)
        things = {"DistillationJob": self.jobs, "TeacherBudget": self.budgets}[kind]
        known = things.get((namespace, name))
        generation = 1 if known is None else known["metadata"]["generation"] + (known["spec"] != body["spec"])
        uid = f"uid-{name}" if known is None else known["metadata"]["uid"]
        given = {"uid": uid, **body["metadata"]}
        # as while its traces are made: money is set aside, and the run of loopback's pods is the one that was announced
        buying = {"status": {"budgetClaimed": True, "stages": [{"name": "traces", "state": "Running", "jobName": f"{name}.traces"}]}}
        things[namespace, name] = {**buying, **body, "metadata": {**given, "namespace": namespace, "generation": generation}}

    async def review_token(self, token: str, audience: str) -> Body:
        """The status of a TokenReview."""
        if token in self.tokens:
            return self.tokens[token]
        if token == "operator":
            return _reviewed(*OPERATOR, ("operator-0", "uid-operator-0"), audience)
        if not token.startswith("pod:"):
            return {"error": "unknown token"}
        namespace, job, stage, *shard = token.removeprefix("pod:").split("/")
        pod = f"{job}.{stage}.{''.join(shard) or '0'}"
        return _reviewed(namespace, "default", (pod, f"uid-{pod}"), audience)

    def strange_tokens(self) -> None:
        """Tokens that a real API server could review, and that let nobody in: for another audience, of no pod."""
        self.tokens["wrong-audience"] = _reviewed("nlp", "default", ("arith.traces.0", "x"), "https://kubernetes.default.svc")
        self.tokens["no-pod"] = _reviewed("nlp", "default", None, GATEWAY_AUDIENCE)

    async def get_pod(self, namespace: str, name: str) -> Body:
        """A pod of a stage, or of anybody else."""
        if name.count(".") != 2:
            return {"metadata": {"name": name, "uid": f"uid-{name}"}}
        job, stage, shard = name.split(".")
        owner = _owner("batch/v1", "Job", f"{job}.{stage}", f"uid-{job}.{stage}")
        labels = {"batch.kubernetes.io/job-completion-index": shard}
        return self._changed({"metadata": {"name": name, "uid": f"uid-{name}", "labels": labels, "ownerReferences": [owner]}})

    async def get_child(self, kind: str, namespace: str, name: str) -> Body:
        """The batch Job of a stage."""
        job, stage = name.split(".")
        owned = await self.get_job(namespace, job)
        owner = _owner(_OURS, "DistillationJob", job, owned["metadata"]["uid"])
        labels = {"distillery.dev/stage": stage}
        return self._changed({"metadata": {"name": name, "uid": f"uid-{name}", "labels": labels, "ownerReferences": [owner]}})

    async def get_job(self, namespace: str, name: str) -> Body:
        """A DistillationJob."""
        self._answers()
        return _found(self.jobs, namespace, name)

    async def get_budget(self, namespace: str, name: str) -> Body:
        """A TeacherBudget."""
        self._answers()
        return _found(self.budgets, namespace, name)

    def _changed(self, body: Body) -> Body:
        """A Pod or batch Job, with what a test has changed of one of that name (None: it was deleted)."""
        change = self.changes.get(body["metadata"]["name"], {})
        if change is None:
            raise NotFound(body["metadata"]["name"])
        return {**body, **change, "metadata": {**body["metadata"], **change.get("metadata", {})}}

    def _answers(self) -> None:
        if self.down:
            raise Unavailable("connection refused")


def _reviewed(namespace: str, name: str, pod: tuple[str, str] | None, audience: str) -> Body:
    named = {} if pod is None else {"pod-name": [pod[0]], "pod-uid": [pod[1]]}
    extra = {f"authentication.kubernetes.io/{key}": value for key, value in named.items()}
    user = {"username": f"system:serviceaccount:{namespace}:{name}", "extra": extra}
    return {"authenticated": True, "audiences": [audience], "user": user}


def _owner(version: str, kind: str, name: str, uid: str) -> Body:
    return {"apiVersion": version, "kind": kind, "name": name, "uid": uid, "controller": True}


def _found(things: dict[tuple[str, str], Body], namespace: str, name: str) -> Body:
    if (namespace, name) not in things:
        raise NotFound(f"{namespace}/{name}")
    return things[namespace, name]


@cache
def catalogue() -> Catalogue:
    """The chart's."""
    return parse_catalogue(CATALOGUE.read_text())


def law(credentials: Credentials, shared_cache: Collection[str] = ()) -> Law:
    """What the chart decides by itself, with these credentials."""
    return Law(catalogue(), credentials, shared_cache)


@asynccontextmanager
async def gateway(
    objects: Objects,
    found: Law,
    ledger_url: str,
    *,
    port: int = 0,
    now: Callable[[], datetime] = utc_now,
    clock: Callable[[], float] = time.monotonic,
    timeout: float = 600.0,
    patience: float = 5.0,
    **more: Any,
) -> AsyncIterator[tuple[str, Asking]]:
    """Serve while the block runs; gives the URL and what is behind it."""
    metrics, door = Metrics(), Door(clock)
    identities = Identities(objects, clock, door)
    ledger = await Ledger.open(ledger_url, now())
    asking = Asking.of(identities, objects, found, ledger, OPERATOR, clock, metrics, now=now, timeout=timeout, **more)
    upkeep = asyncio.create_task(asking.run())
    progress = ProgressEndpoint(identities, Reports(clock), OPERATOR, metrics)
    try:
        async with serving(application([*progress.routes(), *asking.routes], door), "127.0.0.1", port) as bound:
            yield f"http://127.0.0.1:{bound}", asking
            await asking.drain(patience)
    finally:
        upkeep.cancel()
        await asking.close()


async def _run(given: argparse.Namespace) -> None:
    objects = Objects()
    for path in (*given.budget, *given.job):
        for body in yaml.safe_load_all(path.read_text()):
            if body["kind"] == "TeacherBudget" and given.base_url:
                for teacher in body["spec"]["teachers"]:
                    teacher["baseURL"] = given.base_url
            objects.apply(body, given.namespace)
    urls = {t["baseURL"] for body in objects.budgets.values() for t in body["spec"]["teachers"] if "credential" not in t}
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    found = law(Credentials((), urls, time.monotonic))
    async with gateway(objects, found, given.ledger, port=given.port, timeout=given.teacher_timeout) as (url, _):
        print(url, flush=True)
        await stop.wait()


def main(arguments: list[str]) -> None:
    """Serve until it is told to stop."""
    parser = argparse.ArgumentParser(prog="tests.loopback", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--budget", type=Path, action="append", required=True, help="manifest with a TeacherBudget")
    parser.add_argument("--job", type=Path, action="append", default=[], help="manifest with a DistillationJob")
    parser.add_argument("--namespace", default="default", help="of objects that name none")
    parser.add_argument("--base-url", help="in place of every teacher's baseURL")
    parser.add_argument("--ledger", required=True, help="sqlite:////path or postgresql://…")
    parser.add_argument("--teacher-timeout", type=float, default=600.0, help="seconds")
    parser.add_argument("--port", type=int, default=8080)
    parser.add_argument("--log-level", default="info")
    given = parser.parse_args(arguments)
    logs.configure(given.log_level)
    asyncio.run(_run(given))


if __name__ == "__main__":
    main(sys.argv[1:])

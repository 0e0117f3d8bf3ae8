"""A8, R7, R8: many jobs through all stages on the real API server, with pods that have ended at once.

Prints figures and asserts only that all jobs succeed: times on a shared machine are reported, never judged. JOBS=300 by default.
CONTROLLER_QPS="default 200" runs it twice, and prints both columns: as the cluster is, and with a controller manager (of kind) that allows
itself 200 requests a second to the API server in place of 20. SECONDS=600 looks at so much of the run alone, its beginning, where
all jobs are new: what a reaction costs is then known sooner than when they end.
"""

import asyncio
import os
import statistics
import time
from collections import defaultdict
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import yaml
from kubernetes.aio import config
from kubernetes.aio.client import Configuration
from prometheus_client.parser import text_string_to_metric_families
from tests.bench.controllers import kube_api_qps, until_swept
from tests.bench.fake_node import LABEL, Api, Body, connect, fake_node
from tests.conftest import Cluster

from distillery.api.hashes import stage_hashes
from distillery.api.job import DistillationJobSpec
from distillery.api.result import StageResult
from distillery.api.stages import planned_stages

JOBS = int(os.environ.get("JOBS", "300"))
COLUMNS = [None if word == "default" else int(word) for word in os.environ.get("CONTROLLER_QPS", "default").split()]
#: By column.
FIGURES: dict[str, dict[str, str]] = {}
#: The Job controller takes about two seconds for all stages of one.
LIMIT = int(os.environ.get("SECONDS", "0"))
LONGEST = LIMIT or 300 + 4 * JOBS
pytestmark = [pytest.mark.cluster, pytest.mark.timeout(LONGEST + 2400)]
SYSTEM = "distillery-system"
OURS = "/apis/distillery.dev/v1alpha1/namespaces/{namespace}/distillationjobs"
OUTPUT = "s3://models/bench"
EXAMPLE = Path(__file__).parents[2] / "examples/minimal.yaml"
DIGESTS = {name: name * 4 for name in ("teacher", "traces", "student", "train", "evaluation")}

#: What a reaction is made of, by the operator's own metrics.
WAITS = {
    "wait for worker": "distillery_workqueue_queue_duration_seconds",
    "a pass": "distillery_reconcile_seconds",
    "an API request": "distillery_api_request_seconds",
}


def manifest() -> Body:
    """The minimal job with one export, all of whose pods go to the fake node."""
    job: Body = yaml.safe_load(EXAMPLE.read_text().split("\n---", 1)[0])
    placed = {"nodeSelector": {LABEL: "true"}, "tolerations": [{"key": LABEL, "operator": "Exists"}]}
    stages = ("preflight", "traces", "curate", "train", "evaluate", "publish")
    job["spec"] |= {"output": {"uri": OUTPUT}, "scheduling": {"stages": dict.fromkeys(stages, placed)}}
    job["spec"]["exports"] = [{"name": "cpu", "format": "gguf", "quantization": "q8_0", **placed}]
    return job


SPEC = DistillationJobSpec.model_validate(manifest()["spec"])
CHAIN = [stage.name for stage in planned_stages(SPEC)]


def message(pod: Body) -> str:
    """What the pod of a stage says that goes well."""
    stage = pod["metadata"]["labels"]["distillery.dev/stage"]
    result = StageResult(message=f"{stage} is done", manifest=f"{OUTPUT}/stages/{stage}/manifest.json")
    if stage == "preflight":
        result = result.model_copy(update={"hashes": stage_hashes(SPEC, DIGESTS, pod["metadata"]["labels"]["distillery.dev/uid"])})
    if stage == "publish":
        result = result.model_copy(update={"model_uri": f"{OUTPUT}/x/model", "report_uri": f"{OUTPUT}/x/manifest.json"})
    return result.trimmed().decode()


class Observer:
    """When each Job was created and completed, and when each DistillationJob succeeded, on the clock of this process."""

    def __init__(self) -> None:
        self.created: dict[tuple[str, str], float] = {}
        self.completed: dict[tuple[str, str], float] = {}
        self.succeeded: dict[str, float] = {}
        self.failed: dict[str, str] = {}
        self.writes: dict[str, set[str]] = defaultdict(set)
        self.all_ended = asyncio.Event()

    async def jobs(self, api: Api, namespace: str) -> None:
        """Watch the batch Jobs."""
        async for _, job in api.watch(f"/apis/batch/v1/namespaces/{namespace}/jobs"):
            labels = job["metadata"]["labels"]
            key = labels["distillery.dev/job"], labels["distillery.dev/stage"]
            self.created.setdefault(key, time.monotonic())
            if any(c["type"] == "Complete" and c["status"] == "True" for c in job.get("status", {}).get("conditions", ())):
                self.completed.setdefault(key, time.monotonic())

    async def distillation_jobs(self, api: Api, namespace: str) -> None:
        """Watch the DistillationJobs."""
        async for _, job in api.watch(OURS.format(namespace=namespace)):
            name = job["metadata"]["name"]
            self.writes[name].add(job["metadata"]["resourceVersion"])
            for condition in job.get("status", {}).get("conditions", ()):
                if condition["type"] == "Succeeded" and condition["status"] == "True":
                    self.succeeded.setdefault(name, time.monotonic())
                if condition["type"] == "Succeeded" and condition["status"] == "False":
                    self.failed[name] = condition["message"]
            if len(self.succeeded) + len(self.failed) == JOBS:
                self.all_ended.set()

    def reactions(self, until: float) -> list[float]:
        """Seconds from the end of a stage to the next stage's Job, or to the end of the job; of those to come what has passed by then."""
        following = dict(pairwise(CHAIN))
        steps = [
            (self.created.get((name, following[stage]), until) if stage in following else self.succeeded.get(name, until)) - end
            for (name, stage), end in self.completed.items()
        ]
        return sorted(max(0.0, seconds) for seconds in steps)

    def stages(self) -> list[float]:
        """Seconds from a stage's Job to its end: the Job controller, the scheduler and the played node."""
        return sorted(end - self.created[key] for key, end in self.completed.items())


class Operators:
    """CPU seconds and peak memory of the installed operator's replicas, read from their own metrics."""

    def __init__(self, api: Api) -> None:
        self._api = api
        self.peak_rss = 0.0

    async def read(self) -> dict[str, float]:
        """Metric to its sum over replicas; requests also by verb."""
        pods = await self._api.call("GET", f"/api/v1/namespaces/{SYSTEM}/pods?labelSelector=app.kubernetes.io/component=operator")
        found: dict[str, float] = defaultdict(float)
        for pod in pods["items"]:
            text = await self._api.text(f"/api/v1/namespaces/{SYSTEM}/pods/{pod['metadata']['name']}:8080/proxy/metrics")
            for sample in (s for family in text_string_to_metric_families(text) for s in family.samples):
                found[sample.name] += sample.value
                found[f"{sample.name} {sample.labels.get('verb')}"] += sample.value
                if sample.name == "process_resident_memory_bytes":
                    self.peak_rss = max(self.peak_rss, sample.value)
        return found

    async def sample(self) -> None:
        """Read every five seconds."""
        while True:
            await self.read()
            await asyncio.sleep(5)


def percentile(values: list[float], share: float) -> float:
    """Of sorted values."""
    return values[min(len(values) - 1, int(share * len(values)))]


async def load(kubeconfig: Path) -> Configuration:
    """The client configuration of a kubeconfig."""
    found = Configuration()
    await config.load_kube_config(config_file=str(kubeconfig), client_configuration=found)
    return found


@pytest.mark.parametrize("qps", COLUMNS)
async def test_many_jobs_through_all_stages(cluster: Cluster, namespace: str, qps: int | None) -> None:
    until_swept(cluster)
    with kube_api_qps(cluster, qps):
        observer = await run(cluster, namespace, "20 (default)" if qps is None else str(qps))
    assert observer.failed == {}
    assert LIMIT or len(observer.succeeded) == JOBS
    assert observer.completed


async def run(cluster: Cluster, namespace: str, column: str) -> Observer:
    """All jobs, once; prints the figures of this run beside those of the runs before."""
    async with connect(await load(cluster.kubeconfig)) as api, fake_node(api, message):
        observer, operators = Observer(), Operators(api)
        watching: list[asyncio.Task[Any]] = [
            asyncio.create_task(work)
            for work in (observer.jobs(api, namespace), observer.distillation_jobs(api, namespace), operators.sample())
        ]
        before, started, slots = await operators.read(), time.monotonic(), asyncio.Semaphore(10)

        async def create(number: int) -> None:
            job = manifest()
            job["metadata"] = {"name": f"bench-{number:04}"}
            async with slots:
                await api.call("POST", OURS.format(namespace=namespace), job)

        await asyncio.gather(*(create(number) for number in range(JOBS)))
        applied = time.monotonic() - started
        ended = asyncio.create_task(observer.all_ended.wait())
        await asyncio.wait({ended, *watching}, timeout=LONGEST, return_when=asyncio.FIRST_COMPLETED)
        after = await operators.read()
        for task in (ended, *watching):
            task.cancel()
        await asyncio.gather(ended, *watching, return_exceptions=True)
    FIGURES[column] = figures(observer, operators, before, after, started, applied)
    print_columns()
    return observer


def figures(observer: Observer, operators: Operators, before: Body, after: Body, started: float, applied: float) -> dict[str, str]:
    """What was measured, by what it is called."""
    spent, stages = {name: after[name] - before.get(name, 0) for name in after}, len(observer.completed)
    cpu = spent["process_cpu_seconds_total"]
    ended = max(observer.succeeded.values()) if len(observer.succeeded) == JOBS else time.monotonic()
    took, reactions, going = ended - started, observer.reactions(ended), observer.stages()
    writes = statistics.mean(len(versions) for versions in observer.writes.values())
    verbs = {verb: spent.get(f"distillery_api_requests_total {verb}", 0.0) / stages for verb in ("get", "post", "patch", "delete")}
    waits = {what: 1000 * spent[f"{metric}_sum"] / spent[f"{metric}_count"] for what, metric in WAITS.items()}
    return {
        "jobs of stages": f"{JOBS} of {len(CHAIN)}",
        "seconds": f"{took:.1f} ({applied:.1f} to apply them), then {len(observer.succeeded)} had succeeded",
        "throughput": f"{60 * len(observer.succeeded) / took:.0f} jobs/min, {60 * stages / took:.0f} stages/min",
        "reaction p50 · p99 · max": f"{percentile(reactions, 0.5):.2f} · {percentile(reactions, 0.99):.2f} · {reactions[-1]:.2f} s",
        "a Job itself p50 · p99": f"{percentile(going, 0.5):.2f} · {percentile(going, 0.99):.2f} s",
        "operator CPU": f"{cpu:.1f} s, {1000 * cpu / stages:.1f} ms a stage",
        "operator RSS": f"{operators.peak_rss / 2**20:.0f} MiB at most, in one replica",
        "API requests a stage": f"{sum(verbs.values()):.1f}: {', '.join(f'{n:.1f} {verb}' for verb, n in verbs.items())}",
        "passes a stage": f"{spent['distillery_reconcile_total'] / stages:.1f}; versions of a job seen {writes:.1f}",
        **{what: f"{milliseconds:.0f} ms on average" for what, milliseconds in waits.items()},
    }


def print_columns() -> None:
    """Every run so far, a column each, under the rate that the controller manager allowed itself."""
    print(f"\n| kube-api-qps of the controller manager | {' | '.join(FIGURES)} |\n|---|{'---|' * len(FIGURES)}")
    for row in next(iter(FIGURES.values())):
        print(f"| {row} | {' | '.join(found[row] for found in FIGURES.values())} |")

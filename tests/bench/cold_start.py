"""R8: a new leader among many jobs, on the real API server: how long until all is looked at, and what it holds.

JOBS=5000 by default, a fifth of them active: each waits for a pod that no node takes. The others have succeeded, as one that really has.
Prints figures and asserts only that all active jobs were looked at: times on a shared machine are reported, never judged.
"""

import asyncio
import os
import time
from collections.abc import Callable

import pytest
from tests.bench.fake_node import Api, Body, connect, fake_node
from tests.bench.scale import OURS, SYSTEM, Operators, load, manifest, message
from tests.conftest import Cluster
from tests.e2e.waiting import eventually

JOBS = int(os.environ.get("JOBS", "5000"))
ACTIVE = JOBS // 5
LONGEST = 600 + JOBS
pytestmark = [pytest.mark.cluster, pytest.mark.alone, pytest.mark.timeout(2 * LONGEST)]
AT_ONCE = 16


def scale(cluster: Cluster, replicas: int) -> None:
    """The operator's replicas, and wait until they are so many."""
    cluster.kubectl("-n", SYSTEM, "scale", "deployment/distillery-operator", f"--replicas={replicas}")
    selector = "app.kubernetes.io/component=operator"
    if replicas:
        cluster.kubectl("-n", SYSTEM, "rollout", "status", "deployment/distillery-operator", "--timeout=120s")
    else:
        cluster.kubectl("-n", SYSTEM, "wait", "--for=delete", "pods", "-l", selector, "--timeout=120s")


async def succeeded(api: Api, namespace: str) -> Body:
    """The status of a job that has gone through all stages."""
    path = OURS.format(namespace=namespace)
    await api.call("POST", path, manifest() | {"metadata": {"name": "first"}})
    async for _, job in api.watch(path):
        if job.get("status", {}).get("completionTime"):
            status: Body = job["status"]
            return status
    raise AssertionError("the watch ended")


async def fill(api: Api, namespace: str, status: Body) -> None:
    """The jobs: those that have ended, with that status, and those that are active."""
    path, slots = OURS.format(namespace=namespace), asyncio.Semaphore(AT_ONCE)

    async def ended(number: int) -> None:
        async with slots:
            await api.call("POST", path, manifest() | {"metadata": {"name": f"ended-{number:05}"}})
            await api.call("PATCH", f"{path}/ended-{number:05}/status", {"status": status})

    async def active(number: int) -> None:
        job = manifest() | {"metadata": {"name": f"active-{number:05}"}}
        job["spec"]["scheduling"]["stages"]["preflight"] = {"nodeSelector": {"distillery.dev/none": "true"}}
        async with slots:
            await api.call("POST", path, job)

    await asyncio.gather(*(ended(number) for number in range(JOBS - ACTIVE - 1)), *(active(number) for number in range(ACTIVE)))


async def all_run(cluster: Cluster, namespace: str) -> None:
    """Until each active job has the pod that waits."""

    def pods() -> bool:
        return cluster.kubectl("-n", namespace, "get", "pods", "--field-selector=status.phase=Pending", "-o", "name").count("\n") >= ACTIVE

    await asyncio.to_thread(eventually, pods, f"{ACTIVE} pods", LONGEST)


async def until(operators: Operators, holds: Callable[[dict[str, float]], bool]) -> dict[str, float]:
    """The first figures of which that holds."""
    deadline = time.monotonic() + LONGEST
    while not holds(found := await operators.read()):
        assert time.monotonic() < deadline, found
        await asyncio.sleep(0.25)
    return found


async def test_cold_start(cluster: Cluster, namespace: str) -> None:
    async with connect(await load(cluster.kubeconfig)) as api:
        async with fake_node(api, message):
            status = await succeeded(api, namespace)
        await asyncio.to_thread(scale, cluster, 0)
        await fill(api, namespace, status)
        await asyncio.to_thread(scale, cluster, 2)
        await all_run(cluster, namespace)
        await asyncio.to_thread(scale, cluster, 0)
        operators, started = Operators(api), time.monotonic()
        cluster.kubectl("-n", SYSTEM, "scale", "deployment/distillery-operator", "--replicas=2")
        await until(operators, lambda figures: figures["distillery_leader"] == 1)
        leads = time.monotonic()
        found = await until(operators, lambda f: f["distillery_reconcile_total"] >= ACTIVE and f["distillery_workqueue_depth"] == 0)
        ended = time.monotonic()
        requests = found["distillery_api_requests_total"]
    print(f"\n{JOBS} jobs, {ACTIVE} of them active")
    print(f"leader          {leads - started:.1f} s after the Deployment was scaled from none")
    print(
        f"all looked at   {ended - leads:.1f} s after that, in {found['distillery_reconcile_total']:.0f} passes and {requests:.0f} requests"
    )
    print(f"operator RSS    {operators.peak_rss / 2**20:.0f} MiB at most, in one replica")
    print(f"operator CPU    {found['process_cpu_seconds_total']:.1f} s, both replicas, from their start")

"""The safety net under the watches: every so often all budgets, and all jobs that have not ended, are looked at again."""

from __future__ import annotations

import asyncio
import logging
import random
from collections import Counter
from collections.abc import Callable

from .api import reasons
from .cluster import Body, BudgetKey, Cluster, ClusterError, Key
from .metrics import Metrics
from .observe import is_settled

log = logging.getLogger(__name__)
PHASES = ("Active", "Suspended", "Succeeded", "Failed")


def phase(job: Body) -> str:
    """One of PHASES, by the conditions: what `status.phase` says holds stage names, which tenants choose."""
    conditions = {c["type"]: c["status"] for c in job.get("status", {}).get("conditions", ())}
    ended = {"True": "Succeeded", "False": "Failed"}.get(conditions.get(reasons.SUCCEEDED, ""))
    return ended or ("Suspended" if conditions.get(reasons.SUSPENDED) == "True" else "Active")


async def resync(
    cluster: Cluster, add: Callable[[Key | BudgetKey], None], metrics: Metrics, seconds: float, jitter: Callable[[], float] = random.random
) -> None:
    """Until cancelled: list all jobs every `seconds` ± 10 % and add what has not ended, or waits to be deleted; and all budgets."""
    clock = asyncio.get_running_loop().time
    while True:
        await asyncio.sleep(seconds * (0.9 + 0.2 * jitter()))
        started, counts = clock(), Counter[str]()
        try:
            async for job in cluster.list_jobs():
                counts[phase(job)] += 1
                if not is_settled(job):
                    add(Key(job["metadata"]["namespace"], job["metadata"]["name"]))
            async for budget in cluster.list_budgets():
                add(BudgetKey(budget["metadata"]["namespace"], budget["metadata"]["name"]))
        except ClusterError as error:
            log.warning("resync ended early: %s", error)
            continue
        for name in PHASES:
            metrics.jobs.labels(name).set(counts[name])
        metrics.resync_seconds.set(clock() - started)

"""One pass over one TeacherBudget: ask the ledger, show what it says, wake the jobs that wait for a change."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from datetime import datetime

from .cluster import BudgetKey, Cluster, Key, NotFound
from .decide_budget import decide_budget, problem
from .gateway_client import Gateway
from .observe import budget_from, has_ended
from .reconcile import difference, tell


async def reconcile_budget(
    key: BudgetKey, cluster: Cluster, gateway: Gateway, clock: Callable[[], datetime], wake: Callable[[Key], None]
) -> float | None:
    """One pass. Returns after how many seconds to look again. Raises ClusterError: try again later."""
    try:
        budget = budget_from(await cluster.get_budget(key.namespace, key.name))
    except NotFound:
        return None
    if budget.deleting:
        return None
    told = problem(budget) or await gateway.budget(key.namespace, key.name)
    decision = decide_budget(budget, told, clock())
    if decision.wake:
        async for job in _paid_by(key, cluster):
            wake(job)
    await tell(decision.events, cluster)
    if patch := difference(budget.status.wire(), decision.status.wire()):
        await cluster.patch_budget_status(budget.namespace, budget.name, budget.resource_version, patch)
    return decision.requeue_after


async def _paid_by(key: BudgetKey, cluster: Cluster) -> AsyncIterator[Key]:
    """The jobs of a budget that have not ended."""
    async for job in cluster.list_jobs(key.namespace):
        named = (job.get("spec") or {}).get("budgetRef") or {}
        if named.get("name") == key.name and not has_ended(job):
            yield Key(key.namespace, job["metadata"]["name"])

"""One pass over one job: gather, decide, apply, tell, write the status. The only place where reads, decisions and writes meet.

A pass may die between any two calls: the status is the log of intents (see `decide.situation`), so the next pass goes on from there.
Where the status that a pass has written tells what comes next (an announced run is to be created), the pass goes on by itself, with the
object that the API server answered: to read all again would tell nothing new, and would cost time between two stages.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from .allowance import Allowance, allowance_of
from .cluster import AlreadyExists, Body, Children, Cluster, Conflict, Forbidden, Invalid, Key, NotFound
from .decide import Decision, Deletion, claim, decide
from .decide.situation import is_open, is_over, named_children
from .decide.waiting import unexplained
from .gateway_client import Gateway
from .observe import DistillationJob, Observed, Refusal, job_from
from .plan import Plan, make_plan
from .runs import HASH_ANNOTATION, runs_from
from .settings import Settings
from .terms import Catalogue

log = logging.getLogger(__name__)
#: Of one pass; then other keys have their turn. A new job takes three until its first Job is there, a stage that ends takes two.
MOST_ROUNDS = 4


async def reconcile(
    key: Key, cluster: Cluster, gateway: Gateway, clock: Callable[[], datetime], settings: Settings, terms: Catalogue
) -> float | None:
    """One pass. Returns after how many seconds to look again, None if only when something moves. Raises ClusterError: try again later."""
    try:
        job = job_from(await cluster.get_job(*key))
    except NotFound:
        return None
    children: Children | None = None
    for _ in range(MOST_ROUNDS):
        if job.deleting:
            return None  # its children are collected
        now, plan = clock(), make_plan(job.name, job.spec, settings)
        if children is None:
            children = await cluster.children(job.namespace, job.name, job.uid, named_children(job, plan))
        observed = await gather(job, plan, children, cluster, gateway, now, terms)
        decision = await _apply(job, plan, observed, cluster, now)
        job = await _written(job, decision, cluster)
        if decision.requeue_after != 0:
            break
        if decision.delete or any(body["kind"] == "Job" for body in decision.create):
            children = None
    return decision.requeue_after


async def _apply(job: DistillationJob, plan: Plan, observed: Observed, cluster: Cluster, now: datetime) -> Decision:
    """Decide, create and delete, and tell."""
    decision = decide(job, plan, observed, now)
    if refusals := await _create(job, decision, cluster):
        decision = decide(job, plan, replace(observed, refusals=refusals), now)
    for deletion in decision.delete:
        await _delete(job, deletion, cluster)
    await tell(decision.events, cluster)
    return decision


async def _written(job: DistillationJob, decision: Decision, cluster: Cluster) -> DistillationJob:
    """The job with the status that was decided; nothing changed, no write."""
    if patch := difference(job.status.wire(), decision.status.wire()):
        return job_from(await cluster.patch_status(job.namespace, job.name, job.resource_version, patch))
    return job


async def gather(
    job: DistillationJob, plan: Plan, children: Children, cluster: Cluster, gateway: Gateway, now: datetime, terms: Catalogue
) -> Observed:
    """Everything that a decision may rest on. What a job in its state cannot need is not read."""
    runs, strays = runs_from(children.jobs, children.pods)
    observed = Observed(runs=runs, stray_pods=strays)
    if is_over(job.status):
        return await _settled(job, plan, observed, gateway)
    observed = replace(observed, allowance=await _allowance(job, plan, cluster, terms, now))
    observed = await _settled(job, plan, observed, gateway)
    awaited = [stage.job_name for stage in job.status.stages if is_open(stage)]
    if any(name not in runs for name in awaited):
        observed = replace(observed, config_map=await _config_map(job, plan, cluster))
    going = [runs[name] for name in awaited if name in runs and runs[name].finished is None]
    if any(pod.running for run in going for pod in run.pods):
        observed = replace(observed, progress=await gateway.progress(job.namespace, job.name, job.uid))
    uids = [uid for run in going if (uid := unexplained(run, now)) is not None]
    return replace(observed, events={uid: await cluster.warnings_of(job.namespace, uid) for uid in uids})


def difference(old: Mapping[str, Any], new: Mapping[str, Any]) -> Body:
    """The JSON merge patch (RFC 7396) from old to new; empty if they are the same."""
    patch: Body = {name: None for name in old if name not in new}
    for name, value in new.items():
        before = old.get(name)
        if isinstance(value, dict) and isinstance(before, dict):
            if inner := difference(before, value):
                patch[name] = inner
        elif value != before or name not in old:
            patch[name] = value
    return patch


async def _allowance(job: DistillationJob, plan: Plan, cluster: Cluster, terms: Catalogue, now: datetime) -> Allowance | None:
    if plan.spec is None or plan.spec.budget_ref is None:
        return None
    try:
        found = await cluster.get_budget(job.namespace, plan.spec.budget_ref.name)
    except NotFound:
        found = None
    return allowance_of(job.namespace, plan.spec, found, terms, now.astimezone(UTC).date())


async def _settled(job: DistillationJob, plan: Plan, observed: Observed, gateway: Gateway) -> Observed:
    """With what the gateway says to the claim that the status notes."""
    made = claim.claim(job, plan, observed)
    if made is None:
        return observed
    if made.kind == "give back":
        return replace(observed, money=await gateway.give_back(job.namespace, job.name, job.uid))
    return replace(observed, money=await gateway.reserve(job.namespace, job.name, job.uid, made.need))


async def _config_map(job: DistillationJob, plan: Plan, cluster: Cluster) -> Body | None:
    if not plan.config_map:
        return None
    try:
        return await cluster.get_child("ConfigMap", job.namespace, plan.config_map)
    except NotFound:
        return None


async def _create(job: DistillationJob, decision: Decision, cluster: Cluster) -> dict[str, Refusal]:
    """Create the children; returns those that the API server refused, by name."""
    refusals: dict[str, Refusal] = {}
    for body in decision.create:
        name = body["metadata"]["name"]
        try:
            await (cluster.create_job(body) if body["kind"] == "Job" else cluster.create_config_map(body))
        except AlreadyExists:
            if not await _is_ours(job, body, cluster):
                words = f'{body["kind"]} "{name}" is there but not of this job; it is waited for until the collector or you delete it'
                refusals[name] = Refusal(words)
        except Invalid as error:
            refusals[name] = Refusal(error.message, final=True)
        except Forbidden as error:
            refusals[name] = Refusal(error.message)
    return refusals


async def _is_ours(job: DistillationJob, body: Body, cluster: Cluster) -> bool:
    """Whether the object of this name is the one that we were about to create: an earlier pass did, and died."""
    try:
        found = await cluster.get_child(body["kind"], job.namespace, body["metadata"]["name"])
    except NotFound:
        return False
    owners = {owner["uid"] for owner in found["metadata"].get("ownerReferences", ()) if owner.get("controller")}
    wanted, has = (o["metadata"].get("annotations", {}).get(HASH_ANNOTATION) for o in (body, found))
    return owners == {job.uid} and wanted == has


async def _delete(job: DistillationJob, deletion: Deletion, cluster: Cluster) -> None:
    try:
        if deletion.kind == "Job":
            await cluster.delete_job(job.namespace, deletion.name, deletion.uid)
        else:
            await cluster.delete_distillation_job(job.namespace, deletion.name, deletion.uid)
    except (NotFound, Conflict):
        log.debug("%s %s/%s of uid %s was gone already", deletion.kind, job.namespace, deletion.name, deletion.uid)


async def tell(events: Sequence[Body], cluster: Cluster) -> None:
    """Create Events. They are for people: where a namespace refuses them (a quota, its end), all goes on without."""
    for event in events:
        try:
            await cluster.create_event(event)
        except (AlreadyExists, Forbidden, Invalid, NotFound) as error:
            log.info("Event %s was not written: %s", event["reason"], error, extra={"object": event["metadata"]["name"]})

"""The decision: from a job, its plan and what is observed to what is created, deleted, told and written. Pure; `now` is an argument.

Policies are functions from draft to draft, one file each, in the order of `decide`.
"""

from __future__ import annotations

from datetime import datetime

from distillery.observe import DistillationJob, Observed
from distillery.plan import Plan

from . import begin, budget, claim, deadline, finish, progress, record, start, summary, suspend, told, waiting
from .situation import Decision, Deletion, Draft, Situation, is_open, is_outdated, is_over, unfinished

__all__ = ["Decision", "Deletion", "decide"]
#: A status that is older than a child is read again after so many seconds.
OUTDATED_SECONDS = 1.0


def decide(job: DistillationJob, plan: Plan, observed: Observed, now: datetime) -> Decision:
    """What to do now. The same input gives the same decision; a decision that was carried out leads to one that does nothing."""
    situation = Situation(job, plan, observed, now)
    if is_over(job.status):
        return finish.after_end(situation)
    if is_outdated(situation):
        return Decision(job.status, requeue_after=OUTDATED_SECONDS)
    draft = begin.begin(situation)
    draft = record.record(situation, draft)
    draft = suspend.cancel(situation, draft)
    draft = suspend.suspend(situation, draft)
    draft = budget.settle(situation, draft)
    draft = deadline.count(situation, draft)
    draft = waiting.watch(situation, draft)
    draft = start.announce(situation, draft)
    draft = progress.take_reports(situation, draft)
    draft = budget.take_usage(situation, draft)
    create = start.children(situation, draft)
    draft = start.created(situation, draft, create)
    draft = progress.measure(finish.close(situation, draft))
    draft = summary.summarize(situation, draft)
    return Decision(
        status=draft.status,
        create=create,
        delete=finish.sweep(situation),
        events=told.events(situation, draft),
        requeue_after=_requeue_after(situation, draft, bool(create) and not observed.refusals),
    )


def _requeue_after(situation: Situation, draft: Draft, creates: bool) -> float | None:
    """0 where this pass has announced what the next one does; else the first moment at which time alone changes something."""
    before = {stage.name: stage.job_name for stage in situation.job.status.stages}
    ask = claim.seconds_to_ask(situation, draft)
    announced = any(stage.job_name != before.get(stage.name) for stage in draft.status.stages)
    first = situation.job.status.start_time is None and draft.status.start_time is not None
    if (
        announced
        or first
        or ask == 0
        or (creates and any(start.pending_creation(situation, draft)))
        or (draft.verdict and unfinished(situation.observed))
    ):
        return 0.0
    if draft.verdict:
        return float(situation.job.ttl_seconds) if situation.job.ttl_seconds is not None else None
    waits = [ask, deadline.seconds_left(situation, draft), progress.seconds_to_report(situation, draft)]
    for stage in draft.status.stages:
        when = record.retry_at(stage)
        if when is not None and when > situation.now.timestamp():  # a moment that has passed waits for something else
            waits.append(when - situation.now.timestamp())
        run = situation.observed.runs.get(stage.job_name or "")
        if is_open(stage) and (run is None or not (run.suspended or any(pod.running for pod in run.pods))):
            waits.append(waiting.seconds_to_look(run, situation.observed.events, situation.now))
    if draft.suspension == "stopping" and situation.observed.stray_pods:  # the end of any other pod is told by its Job
        waits.append(waiting.WAITING_SECONDS)
    soonest = min((wait for wait in waits if wait is not None), default=None)
    return None if soonest is None else max(soonest, 0.5)

"""The end: nothing runs any more, and after its time the object goes too."""

from __future__ import annotations

from distillery.observe import DistillationJob
from distillery.timestamps import seconds_since

from . import budget, claim, deadline
from .situation import Decision, Deletion, Draft, Situation, is_open, is_over, open_names, unfinished


def close(situation: Situation, draft: Draft) -> Draft:
    """With a verdict, every run is closed, so that the next pass deletes what still runs."""
    if draft.verdict is None:
        return draft
    for stage in draft.status.stages:
        if is_open(stage) or stage.state in ("Waiting", "Suspended"):
            change = {"state": "Stopped", "job_name": None, "completion_time": situation.stamp, "reason": None}
            draft = draft.with_stage(stage.name, message="stopped: the job has ended", **change)
    return deadline.stop(situation, draft).with_status(completion_time=situation.stamp)


def sweep(situation: Situation) -> tuple[Deletion, ...]:
    """Jobs that have not finished and whose run is not open in the status that was read."""
    wanted = open_names(situation.job.status)
    return tuple(
        Deletion("Job", run.name, run.uid)
        for run in unfinished(situation.observed)
        if run.name not in wanted and run.finished is None and not run.deleting
    )


def after_end(situation: Situation) -> Decision:
    """Of a job that has ended: delete what is left of its Jobs, give its budget back, note that an edit was seen (tools that wait take
    an object whose generation nobody has observed for one in progress), and delete the object itself after ttlSecondsAfterFinished.
    Nothing else, ever."""
    job = situation.job
    status = budget.after_end(situation).model_copy(update={"observed_generation": job.generation})
    left = seconds_to_live(job, situation)
    if left is not None and left <= 0:
        return Decision(status, delete=(*sweep(situation), Deletion("DistillationJob", job.name, job.uid)))
    asks = claim.REFUSED_SECONDS if status.budget_claimed else None
    return Decision(status, delete=sweep(situation), requeue_after=min((wait for wait in (left, asks) if wait is not None), default=None))


def seconds_to_live(job: DistillationJob, situation: Situation) -> float | None:
    """Until ttlSecondsAfterFinished has passed; None if the object stays."""
    if job.ttl_seconds is None or not is_over(job.status) or job.status.completion_time is None:
        return None
    return job.ttl_seconds - seconds_since(job.status.completion_time, situation.now)

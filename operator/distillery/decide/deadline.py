"""spec.activeDeadlineSeconds: seconds of work over all stages, without suspension and waiting for quota or budget; so not counted by
the Jobs."""

from __future__ import annotations

from distillery.api import reasons
from distillery.timestamps import moment, seconds_since

from .budget import waits
from .situation import Draft, Situation, is_open, is_over


def count(situation: Situation, draft: Draft) -> Draft:
    """Start, stop or go on counting; end the job where the deadline has passed."""
    status = draft.status
    active = _is_active(situation, draft)
    if active and status.active_since is None:
        draft = draft.with_status(active_since=situation.stamp)
    elif not active:
        draft = stop(situation, draft)
    limit = situation.plan.spec.active_deadline_seconds if situation.plan.spec else None
    if limit is not None and not draft.verdict and _seconds(situation, draft) >= limit:
        remedy = "raise it in a new job, which reuses the finished stages"
        draft = draft.ended(reasons.DEADLINE_EXCEEDED, f"spec.activeDeadlineSeconds: {limit} seconds of work have passed; {remedy}")
    return draft


def stop(situation: Situation, draft: Draft) -> Draft:
    """Counting ends with the job."""
    if draft.status.active_since is None:
        return draft
    return draft.with_status(active_since=None, active_seconds=_seconds(situation, draft))


def seconds_left(situation: Situation, draft: Draft) -> float | None:
    """Until the deadline; None while time is not counted."""
    limit = situation.plan.spec.active_deadline_seconds if situation.plan.spec else None
    if limit is None or draft.status.active_since is None or is_over(draft.status):
        return None
    return limit - draft.status.active_seconds - (situation.now - moment(draft.status.active_since)).total_seconds()


def _seconds(situation: Situation, draft: Draft) -> int:
    since = draft.status.active_since
    return draft.status.active_seconds + (max(0, int(seconds_since(since, situation.now))) if since else 0)


def _is_active(situation: Situation, draft: Draft) -> bool:
    """Not suspended, with a budget and, in a queue, admitted: some open Job of it is not held back."""
    if draft.verdict or draft.suspension != "none" or draft.status.start_time is None or waits(situation, draft):
        return False
    if situation.plan.spec is None or situation.plan.spec.scheduling.queue_name is None:
        return True
    runs = (situation.observed.runs.get(stage.job_name or "") for stage in draft.status.stages if is_open(stage))
    return any(run is not None and not run.suspended and run.finished is None for run in runs)

"""spec.suspend and spec.cancel: the running pods are stopped and write their checkpoints."""

from __future__ import annotations

from dataclasses import replace

from distillery.api import reasons

from .situation import Draft, Situation, is_open, unfinished


def suspend(situation: Situation, draft: Draft) -> Draft:
    """Close every open run, so that its Job is deleted; suspended only when no pod is left."""
    if not situation.job.suspend or draft.verdict:
        return draft
    for stage in draft.status.stages:
        if is_open(stage):
            draft = draft.with_stage(
                stage.name, state="Suspended", job_name=None, reason=None, message="goes on from its last checkpoint when resumed"
            )
    left = bool(unfinished(situation.observed)) or situation.observed.stray_pods > 0
    return replace(draft, suspension="stopping" if left else "done")


def cancel(situation: Situation, draft: Draft) -> Draft:
    """The user has given the job up; what is finished stays in the store."""
    if not situation.job.cancel:
        return draft
    return draft.ended(
        reasons.CANCELLED, "cancelled by spec.cancel; finished stages stay in the store and a new job with the same output reuses them"
    )

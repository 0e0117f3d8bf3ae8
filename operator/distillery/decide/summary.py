"""Conditions and phase, derived from the draft alone: nothing decides by them but the user, kubectl and GitOps tools."""

from __future__ import annotations

from distillery.api import reasons
from distillery.api.kinds import KINDS, PREFLIGHT, kind_of
from distillery.api.status import StageStatus
from distillery.conditions import Verdict, clip, milestone, status_of, updated

from . import budget
from .situation import SATISFIED, Draft, Situation, is_open


def summarize(situation: Situation, draft: Draft) -> Draft:
    """The draft with all its conditions and its phase."""
    wanted: dict[str, Verdict | None] = {
        reasons.VALIDATED: _validated(situation, draft),
        **(_milestones(draft) if draft.status.stages else {}),
        reasons.BUDGET_RESERVED: budget.verdict(situation, draft),
        reasons.QUOTA_RESERVED: _quota(situation, draft),
        reasons.SUSPENDED: _suspended(situation, draft),
        reasons.SUCCEEDED: _succeeded(draft),
        reasons.RECONCILING: _reconciling(situation, draft),
        reasons.STALLED: _stalled(situation, draft),
    }
    wanted[reasons.EXPORTED] = _exported(draft, wanted.get(reasons.EXPORTED))
    known = {kind: verdict for kind, verdict in wanted.items() if verdict is not None}
    conditions = updated(situation.job.status.conditions, known, situation.job.generation, situation.now)
    return draft.with_status(conditions=conditions, phase=_phase(situation, draft))


def _milestones(draft: Draft) -> dict[str, Verdict]:
    return {kind.condition: milestone(_stages(draft, kind.name), kind.absent) for kind in KINDS.values() if kind.condition}


def _stages(draft: Draft, kind: str) -> list[StageStatus]:
    return [stage for stage in draft.status.stages if (found := kind_of(stage.name)) is not None and found.name == kind]


def _validated(situation: Situation, draft: Draft) -> Verdict:
    if situation.plan.problems:
        return Verdict("False", reasons.INVALID_SPEC, clip("; ".join(situation.plan.problems)))
    if (refusal := _refusal(situation)) is not None and draft.verdict is None:
        return refusal
    return milestone(_stages(draft, PREFLIGHT), "")


def _refusal(situation: Situation) -> Verdict | None:
    """What the terms of the teacher say against the declared use."""
    return situation.observed.allowance.refusal if situation.observed.allowance else None


def _exported(draft: Draft, stages: Verdict | None) -> Verdict | None:
    withheld = [artifact for artifact in draft.status.artifacts if artifact.passed is False]
    if not withheld:
        return stages
    message = "; ".join(f"artifact {a.name} is withheld: {a.message or 'a gate was missed'}" for a in withheld)
    return Verdict("False", reasons.QUALITY_GATE_FAILED, message)


def _quota(situation: Situation, draft: Draft) -> Verdict | None:
    spec = situation.plan.spec
    if spec is None:
        return None
    if spec.scheduling.queue_name is None:
        return Verdict("True", reasons.NOT_PLANNED, "spec.scheduling.queueName is not set: Jobs are not queued")
    runs = [run for stage in draft.status.stages if is_open(stage) and (run := situation.observed.runs.get(stage.job_name or ""))]
    if any(run.suspended for run in runs):
        return Verdict("False", reasons.WAITING_FOR_QUOTA, f'LocalQueue "{spec.scheduling.queue_name}" has not admitted the Job yet')
    return Verdict("True", reasons.RUNNING, f'admitted by LocalQueue "{spec.scheduling.queue_name}"') if runs else None


def _suspended(situation: Situation, draft: Draft) -> Verdict:
    if draft.suspension == "done" and draft.verdict is None:
        return Verdict("True", reasons.BY_USER, "spec.suspend is true and no pod is left; spec may be edited")
    if draft.suspension == "stopping" and draft.verdict is None:
        return Verdict("False", reasons.SUSPENDING, "waits for the last pod to write its checkpoint and end")
    was = status_of(situation.job.status.conditions, reasons.SUSPENDED) == "True"
    before = next((c.reason for c in situation.job.status.conditions if c.type == reasons.SUSPENDED), reasons.RUNNING)
    return Verdict("False", reasons.RESUMED if was or before == reasons.RESUMED else reasons.RUNNING)


def _succeeded(draft: Draft) -> Verdict:
    if draft.verdict is not None:
        return draft.verdict
    if draft.suspension != "none":
        return Verdict("Unknown", reasons.SUSPENDED)
    started = any(stage.state != "Pending" for stage in draft.status.stages)
    return Verdict("Unknown", reasons.RUNNING if started else reasons.PENDING)


def _reconciling(situation: Situation, draft: Draft) -> Verdict:
    """Only until the first child is accepted: GitOps tools call an object with it 'in progress', and a job may take days."""
    if draft.verdict is not None or situation.plan.problems or draft.suspension == "done":
        return Verdict("False", reasons.DONE)
    accepted = any(stage.start_time is not None for stage in draft.status.stages)
    if not accepted and (blocked := budget.blocked(situation, draft)) is not None:
        return Verdict("False" if _refusal(situation) else "True", blocked.reason, blocked.message)
    return Verdict("False", reasons.RUNNING) if accepted else Verdict("True", reasons.PENDING, "the first stage is not created yet")


def _stalled(situation: Situation, draft: Draft) -> Verdict:
    if draft.verdict is not None and draft.verdict.status == "False":
        return Verdict("True", draft.verdict.reason, draft.verdict.message)
    if situation.plan.problems:
        return Verdict("True", reasons.INVALID_SPEC, clip("; ".join(situation.plan.problems)))
    if draft.verdict is None and (refusal := _refusal(situation)) is not None:
        return Verdict("True", refusal.reason, refusal.message)
    return Verdict("False", reasons.DONE if draft.verdict else reasons.RUNNING)


def _phase(situation: Situation, draft: Draft) -> str:
    if draft.verdict is not None:
        return "Succeeded" if draft.verdict.status == "True" else "Failed"
    if situation.plan.problems:
        return "Invalid"
    if draft.suspension != "none":
        return "Suspended" if draft.suspension == "done" else "Suspending"
    if (waiting := budget.phase(situation, draft)) is not None:
        return waiting
    begun = [stage for stage in draft.status.stages if stage.state not in (*SATISFIED, "Pending")]
    current = next(iter(begun), None) or next((s for s in draft.status.stages if s.state not in SATISFIED and s.job_name), None)
    kind = kind_of(current.name) if current else None
    return kind.phase if kind else "Pending"

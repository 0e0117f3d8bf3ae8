"""Events: what has changed between two statuses, each told once."""

from __future__ import annotations

from collections.abc import Iterator

from distillery.api import reasons
from distillery.api.kinds import TRACES
from distillery.api.refusals import reasons_of
from distillery.api.status import StageStatus
from distillery.conditions import clip
from distillery.manifests import event

from .situation import Body, Draft, Situation, is_over

NOTE_LIMIT = 900
#: Reasons of Validated that people are told of at once; the others are told as a stage's.
_REFUSED = (reasons.INVALID_SPEC, *reasons_of("terms"))
#: Reasons of BudgetReserved that are steps on the way.
_SILENT = (
    reasons.PENDING, reasons.WAITING_FOR_PREFLIGHT, reasons.WAITING_FOR_BUDGET, reasons.NOTHING_TO_BUY, reasons.RELEASED, *_REFUSED,
)  # fmt: skip


def events(situation: Situation, draft: Draft) -> tuple[Body, ...]:
    """The Events of this transition. A second pass over the same transition makes the same names."""
    told = [*_of_stages(situation, draft), *_of_job(situation, draft)]
    return tuple(
        event(situation.job, kind, reason, clip(note, NOTE_LIMIT), occasion, situation.now) for kind, reason, note, occasion in told
    )


def _of_stages(situation: Situation, draft: Draft) -> Iterator[tuple[str, str, str, str]]:
    before = {stage.name: stage for stage in situation.job.status.stages}
    reused = [stage.name for stage in draft.status.stages if stage.state == "Reused" and _state(before.get(stage.name)) != "Reused"]
    if reused:
        yield "Normal", reasons.STAGES_REUSED, f"already in the store, not run again: {', '.join(reused)}", draft.status.spec_hash or ""
    unfunded = {condition.reason for condition in draft.status.conditions if condition.type == reasons.BUDGET_RESERVED}
    for stage in draft.status.stages:
        old = before.get(stage.name) or StageStatus(name=stage.name)
        if stage.name == TRACES and stage.state == "Waiting" and stage.reason in unfunded:
            continue  # told of the job
        for kind, reason, run, note in _of_stage(old, stage):
            yield kind, reason, f"stage {stage.name}: {note}", f"{stage.name}/{run}/{stage.hash}"


def _of_stage(old: StageStatus, new: StageStatus) -> Iterator[tuple[str, str, int, str]]:
    """Type, reason, run and note."""
    said = new.message or ""
    if new.run_start_time is not None and (old.run_start_time is None or old.runs != new.runs):
        yield "Normal", reasons.STAGE_STARTED, new.runs, f"created Job {new.job_name} (run {new.runs})"
    if new.state == "Failed":
        yield "Warning", reasons.STAGE_FAILED, old.runs, said
    elif new.state == "Succeeded" and old.state != "Succeeded":
        yield "Normal", reasons.STAGE_SUCCEEDED, old.runs, said or "done"
    elif new.attempts > old.attempts:
        yield "Warning", reasons.STAGE_RETRIED, old.runs, said
    elif new.stale_runs > old.stale_runs:
        yield "Warning", reasons.STAGE_INTERRUPTED, old.runs, f"run {old.runs} was interrupted, which costs no attempt"
    elif new.state == "Waiting" and new.reason not in (None, old.reason, reasons.WAITING) and new.job_name:
        yield "Normal" if new.reason == reasons.WAITING_FOR_QUOTA else "Warning", new.reason or "", new.runs, said


def _of_job(situation: Situation, draft: Draft) -> Iterator[tuple[str, str, str, str]]:
    occasion = str(situation.job.generation)
    before = {condition.type: condition for condition in situation.job.status.conditions}
    for condition in draft.status.conditions:
        old = before.get(condition.type)
        if old is not None and (old.status, old.reason) == (condition.status, condition.reason):
            continue
        if condition.type == reasons.SUSPENDED and condition.status == "True":
            yield "Normal", reasons.SUSPENDED, condition.message, occasion
        elif condition.type == reasons.SUSPENDED and old is not None and old.status == "True":
            yield "Normal", reasons.RESUMED, "goes on", occasion
        elif condition.type == reasons.VALIDATED and condition.reason in _REFUSED:
            yield "Warning", condition.reason, condition.message, occasion
        elif condition.type == reasons.BUDGET_RESERVED and condition.reason not in _SILENT:
            runs = next((stage.runs for stage in situation.job.status.stages if stage.name == TRACES), 0)
            good = condition.status == "True"
            yield "Normal" if good else "Warning", condition.reason, condition.message, f"{draft.status.spec_hash}/{runs}"
        elif condition.type == reasons.EXPORTED and condition.reason == reasons.QUALITY_GATE_FAILED:
            yield "Warning", reasons.QUALITY_GATE_FAILED, condition.message, draft.status.spec_hash or ""
        elif condition.type == reasons.SUCCEEDED and is_over(draft.status):
            good = condition.status == "True"
            yield "Normal" if good else "Warning", reasons.SUCCEEDED if good else condition.reason, condition.message, ""


def _state(stage: StageStatus | None) -> str:
    return stage.state if stage else ""

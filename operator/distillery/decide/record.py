"""What runs left behind, written down: results, failures that cost an attempt, interruptions and empty budgets that do not."""

from __future__ import annotations

from dataclasses import replace

from distillery.api import reasons
from distillery.api.kinds import EVALUATE, PREFLIGHT, TRACES
from distillery.api.result import StageResult
from distillery.api.stages import Stage, gates_of
from distillery.api.status import StageProgress, StageStatus
from distillery.conditions import clip
from distillery.plan import scheduling_field
from distillery.runs import Run
from distillery.timestamps import moment, stamp

from .claim import LONGEST_PROMPT, REQUESTS
from .outcomes import Outcome, outcome
from .published import published
from .situation import MOST_STALE_RUNS, SATISFIED, Draft, Situation, accepted, is_open

FIRST_DELAY_SECONDS, LONGEST_DELAY_SECONDS = 10.0, 300.0


def record(situation: Situation, draft: Draft) -> Draft:
    """Every open run whose Job has finished, vanished or is being deleted by someone else."""
    spec = situation.plan.spec
    if spec is None:
        return draft
    for planned in situation.plan.stages:
        stage = draft.stage(planned.name)
        if not is_open(stage) or stage.job_name is None:
            continue
        run = situation.observed.runs.get(stage.job_name)
        if run is not None and stage.run_start_time is None:  # created by a pass that did not live to write it down
            draft = draft.with_stage(stage.name, **accepted(situation, stage))
        found = _vanished(stage) if run is None else _outcome(run, spec.output.uri, planned)
        if found is not None:
            draft = _recorded(situation, draft, planned, found)
    return draft


def retry_at(stage: StageStatus) -> float | None:
    """When the next run may start, in seconds since 1970; None at once. Doubles with each failure, measured from the last one.

    Interruptions are retried at once, but not in a tight loop: from the second in a row they wait as failures do. So does a run that
    ended for want of a budget or a permission: traces a little, for the gateway is asked before; others longer each time.
    """
    if stage.completion_time is None or stage.job_name is not None or stage.state not in ("Waiting", "Pending"):
        return None
    unfunded = 1 if stage.name == TRACES else stage.runs
    exponent = (stage.attempts or unfunded) - 1 if stage.state == "Waiting" else stage.stale_runs - 2
    if exponent < 0:
        return None
    delay = min(FIRST_DELAY_SECONDS * 2.0 ** min(exponent, 10), LONGEST_DELAY_SECONDS)
    return moment(stage.completion_time).timestamp() + delay


def _vanished(stage: StageStatus) -> Outcome | None:
    if stage.run_start_time is None:
        return None  # not created yet
    return Outcome("interrupted", reasons.PREEMPTED, f"Job {stage.job_name} vanished; the stage runs again")


def _outcome(run: Run, output: str, planned: Stage) -> Outcome | None:
    if run.finished:
        return outcome(run, output, scheduling_field(planned))
    if run.deleting:
        return Outcome("interrupted", reasons.PREEMPTED, f"Job {run.name} was deleted; the stage runs again")
    return None


def _recorded(situation: Situation, draft: Draft, planned: Stage, found: Outcome) -> Draft:
    name = planned.name
    if found.kind == "done" and found.result is not None:
        return _succeeded(situation, draft, planned, found.result, found)
    closing = {"completion_time": _when(situation, found), "message": clip(found.message), "reason": found.reason}
    if found.kind == "unfunded":
        return draft.with_stage(name, state="Waiting", job_name=None, **closing)
    if found.kind == "mistake":
        draft = draft.with_stage(name, state="Failed", attempts=draft.stage(name).attempts + 1, **closing)
        if planned.kind == EVALUATE and found.result and found.result.evaluation:
            draft = draft.with_status(evaluation=found.result.evaluation)
        return draft.ended(found.reason, f"stage {name}: {found.message}")
    draft = draft.with_stage(name, **closing)
    return _interrupted(situation, draft, name) if found.kind == "interrupted" else _failed(situation, draft, name)


def _failed(situation: Situation, draft: Draft, name: str) -> Draft:
    stage, spec = draft.stage(name), situation.plan.spec
    attempts, limit = stage.attempts + 1, spec.backoff_limit if spec else 0
    if attempts > limit:
        message = clip(f"{attempts} of {limit + 1} attempts failed; the last: {stage.message}")
        failed = draft.with_stage(name, state="Failed", attempts=attempts, message=message)
        return failed.ended(reasons.BACKOFF_LIMIT_EXCEEDED, f"stage {name}: {message}")
    message = clip(f"attempt {attempts} of {limit + 1} failed, tried again: {stage.message}")
    return draft.with_stage(name, state="Waiting", job_name=None, attempts=attempts, message=message, stale_runs=0)


def _interrupted(situation: Situation, draft: Draft, name: str) -> Draft:
    stage = draft.stage(name)
    step = situation.checkpoint(stage)
    progressed = step is not None and step > (stage.run_checkpoint_step or 0)
    stale = 0 if progressed else stage.stale_runs + 1
    if stale >= MOST_STALE_RUNS:
        message = clip(f"{stale} runs in a row ended from outside without a new checkpoint; the last: {stage.message}")
        return draft.with_stage(name, state="Failed", stale_runs=stale, message=message, reason=reasons.NO_PROGRESS).ended(
            reasons.NO_PROGRESS, f"stage {name}: {message}"
        )
    progress = stage.progress.model_copy(update={"checkpoint_step": step}) if stage.progress else None
    return draft.with_stage(name, state="Pending", job_name=None, stale_runs=stale, progress=progress)


def _succeeded(situation: Situation, draft: Draft, planned: Stage, result: StageResult, found: Outcome) -> Draft:
    name = planned.name
    result = result.named([later.name for later in situation.plan.stages[1:]])
    if planned.kind == PREFLIGHT and (missing := _untold(situation, result)):
        message = f"preflight ended without {missing}: trainer image and operator do not fit each other"
        return _failed(
            situation, draft.with_stage(name, message=message, reason=reasons.INTERNAL_ERROR, completion_time=_when(situation, found)), name
        )
    progress = (draft.stage(name).progress or StageProgress()).model_copy(update={"percentage": 100, "estimated_remaining_seconds": 0})
    draft = draft.with_stage(
        name,
        state="Succeeded",
        completion_time=_when(situation, found),
        message=clip(result.message) or None,
        reason=reasons.REUSED if result.adopted else reasons.DONE,
        metrics=result.metrics,
        progress=progress,
    )
    if planned.kind == PREFLIGHT:
        draft = _hashed(situation, draft, result)
    return replace(draft, status=published(draft.status, result))


def _untold(situation: Situation, result: StageResult) -> str:
    """What a preflight has to tell and this one has not."""
    unhashed = ", ".join(s.name for s in situation.plan.stages[1:] if s.name not in (result.hashes or {}))
    lacking = [f"the hash of {unhashed}"] if unhashed else []
    spec = situation.plan.spec
    if spec is not None and spec.teacher.endpoint is not None and TRACES not in (result.reused or ()):
        told = {metric.name for metric in result.metrics if metric.value.isdecimal()}
        lacking += [f"metric {name}" for name in (REQUESTS, LONGEST_PROMPT) if name not in told]
    return ", ".join(lacking)


def _hashed(situation: Situation, draft: Draft, result: StageResult) -> Draft:
    """Now that the hashes are known: what is done stays done if its hash is the same, what the store has is reused, the rest runs."""
    hashes, reused = result.hashes or {}, set(result.reused or ())
    for planned in situation.plan.stages[1:]:
        stage, name = draft.stage(planned.name), planned.name
        gated = situation.plan.spec is not None and bool(gates_of(situation.plan.spec, planned))
        if name in reused and stage.state != "Succeeded":
            fresh = StageStatus(name=name, state="Reused", hash=hashes[name], runs=stage.runs, reason=reasons.REUSED)
        elif stage.state in SATISFIED and stage.hash == hashes[name] and (name in reused or not gated):
            continue
        else:
            keep = stage.hash == hashes[name]
            fresh = StageStatus(name=name, hash=hashes[name], runs=stage.runs, progress=stage.progress if keep else None)
            draft = draft.with_status(
                evaluation=None if planned.kind == EVALUATE else draft.status.evaluation,
                artifacts=[a for a in draft.status.artifacts if planned.export is None or a.name != planned.export.name],
            )
        draft = draft.with_status(stages=[fresh if s.name == name else s for s in draft.status.stages])
    exported = {planned.export.name for planned in situation.plan.stages if planned.export}
    return draft.with_status(artifacts=[a for a in draft.status.artifacts if a.name in exported])


def _when(situation: Situation, found: Outcome) -> str:
    """When the run ended; never later than now, whatever another machine's clock says."""
    ended = moment(found.ended) if found.ended else situation.now
    return stamp(min(ended, situation.now))

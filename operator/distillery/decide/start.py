"""What comes next: runs are announced in the status first, and created in the pass after."""

from __future__ import annotations

from collections.abc import Iterator

from distillery.api import reasons
from distillery.api.kinds import PREFLIGHT
from distillery.api.stages import Stage
from distillery.api.status import StageStatus
from distillery.conditions import clip, status_of
from distillery.manifests import config_map, stage_job
from distillery.observe import Refusal, frozen_image
from distillery.plan import child_name, scheduling_field, shards_of

from . import budget
from .record import retry_at
from .situation import SATISFIED, Body, Draft, Situation, accepted, is_open
from .waiting import understand


def announce(situation: Situation, draft: Draft) -> Draft:
    """Open the next run of every stage whose needs are met; the job succeeds when all are."""
    plan = situation.plan
    if draft.verdict or draft.suspension != "none" or plan.problems or budget.blocked(situation, draft):
        return draft
    if draft.status.start_time is None:
        draft = draft.with_status(start_time=situation.stamp)
    if all(draft.stage(planned.name).state in SATISFIED for planned in plan.stages):
        return draft.ended(reasons.DONE, _summary(draft), success=True)
    for planned in plan.stages:
        if _is_due(situation, draft, planned):
            draft = _opened(situation, draft, planned)
    return draft


def children(situation: Situation, draft: Draft) -> tuple[Body, ...]:
    """What to create: only what the status that was read has announced, and what this pass has not taken back."""
    job, plan = situation.job, situation.plan
    announced = [planned for planned in plan.stages if _is_announced(situation, draft, planned)]
    if not announced or plan.spec is None:
        return ()
    if situation.observed.config_map is None:
        return (config_map(job, plan, plan.spec),)
    image = frozen_image(situation.observed.config_map, job.uid)
    if image is None:
        return ()
    made = []
    for planned in announced:
        stage = draft.stage(planned.name)
        made.append(stage_job(job, plan, plan.spec, planned, image, _hashes(draft, planned), stage.runs))
    return tuple(made)


def created(situation: Situation, draft: Draft, bodies: tuple[Body, ...]) -> Draft:
    """The stages whose Jobs are created now run; those whose children were refused wait, or end the job."""
    names = {body["metadata"]["name"] for body in bodies}
    for planned in situation.plan.stages:
        stage = draft.stage(planned.name)
        if not _is_announced(situation, draft, planned):
            continue
        refusal = _refusal(situation, stage)
        if refusal is None and stage.job_name in names:
            draft = draft.with_stage(stage.name, **accepted(situation, stage))
        elif refusal is not None and refusal.final:
            field = scheduling_field(planned)
            message = f"the API server refuses its Job: {refusal.message}; correct {field} in a new job, which reuses the finished stages"
            failed = draft.with_stage(stage.name, state="Failed", reason=reasons.INVALID_SPEC, message=clip(message))
            draft = failed.ended(reasons.INVALID_SPEC, f"stage {stage.name}: {message}")
        elif refusal is not None:
            found = understand(refusal.message, scheduling_field(planned))
            reason = found.reason if found.reason != reasons.WAITING else reasons.NAME_CONFLICT
            draft = draft.with_stage(stage.name, state="Waiting", reason=reason, message=found.message)
    return draft


def _refusal(situation: Situation, stage: StageStatus) -> Refusal | None:
    observed, name = situation.observed, situation.plan.config_map
    if observed.config_map is not None and frozen_image(observed.config_map, situation.job.uid) is None:
        return Refusal(f'ConfigMap "{name}" is not of this job; it is waited for until the collector or you delete it')
    return observed.refusals.get(name) or observed.refusals.get(stage.job_name or "")


def _is_due(situation: Situation, draft: Draft, planned: Stage) -> bool:
    stage = draft.stage(planned.name)
    if stage.state in (*SATISFIED, "Failed") or is_open(stage) or stage.hash is None:
        return False
    if any(before.name == planned.name and is_open(before) for before in situation.job.status.stages):
        return False  # one pass closes a run, and tells why; the next opens another
    if any(draft.stage(need).state not in SATISFIED for need in (PREFLIGHT, *planned.needs) if need != planned.name):
        return False
    if any(run.live for run in situation.observed.of(planned.name)):
        return False  # its last pod may still be writing its checkpoint
    if not _is_funded(situation, planned):
        return False
    when = retry_at(stage)
    return when is None or situation.now.timestamp() >= when


def _is_funded(situation: Situation, planned: Stage) -> bool:
    """Whether the stage buys nothing, or the gateway has just granted what it buys."""
    spec = situation.plan.spec
    return spec is None or shards_of(spec, planned) is None or budget.may_buy(situation)


def _opened(situation: Situation, draft: Draft, planned: Stage) -> Draft:
    stage = draft.stage(planned.name)
    run = max([stage.runs, *(run.number for run in situation.observed.of(planned.name))]) + 1
    name = child_name(situation.job.name, planned.name, stage.hash or "", run)
    change = {
        "state": "Pending",
        "runs": run,
        "run_start_time": None,
        "job_name": name,
        "completion_time": None,
        "reason": None,
        "message": None,
    }
    return draft.with_stage(planned.name, run_checkpoint_step=situation.checkpoint(stage), **change)


def _is_announced(situation: Situation, draft: Draft, planned: Stage) -> bool:
    status = situation.job.status
    if draft.verdict or situation.plan.problems or status.start_time is None or status.spec_hash != situation.plan.spec_hash:
        return False
    if status_of(status.conditions, reasons.SUSPENDED) == "True":
        return False  # the spec may be edited until the status says otherwise
    before = next((stage for stage in status.stages if stage.name == planned.name), None)
    if before is None or not is_open(before) or before.run_start_time is not None or before.job_name in situation.observed.runs:
        return False
    now = draft.stage(planned.name)
    permitted = budget.blocked(situation, draft) is None and _is_funded(situation, planned)
    return is_open(now) and now.job_name == before.job_name and permitted


def _hashes(draft: Draft, planned: Stage) -> dict[str, str]:
    """The hashes that the stage is told: its own, and those of all stages before it."""
    found: dict[str, str] = {}
    for stage in draft.status.stages:
        if stage.name == planned.name:
            found[stage.name] = stage.hash or ""
            return found
        if stage.hash and stage.name != PREFLIGHT:
            found[stage.name] = stage.hash
    return found


def _summary(draft: Draft) -> str:
    status = draft.status
    withheld = [artifact for artifact in status.artifacts if artifact.passed is False]
    parts = [f"published to {status.model_uri}" if status.model_uri else "all stages are done"]
    parts.extend(f"artifact {a.name} is withheld: {a.message or 'a gate was missed'}" for a in withheld)
    return "; ".join(parts)


def pending_creation(situation: Situation, draft: Draft) -> Iterator[str]:
    """The names of Jobs that the draft announces and that are not there yet."""
    for stage in draft.status.stages:
        if is_open(stage) and stage.run_start_time is None and stage.job_name and stage.job_name not in situation.observed.runs:
            yield stage.job_name

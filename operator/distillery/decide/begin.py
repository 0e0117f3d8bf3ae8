"""The first pass, and the first after an edit: the stages of this spec, preflight first."""

from __future__ import annotations

from distillery.api.kinds import PREFLIGHT
from distillery.api.status import DistillationJobStatus, StageStatus

from .situation import Draft, Situation, is_open


def begin(situation: Situation) -> Draft:
    """The draft to start from: the status as it was, for the spec as it is."""
    status, plan = situation.job.status, situation.plan
    planned = [stage.name for stage in plan.stages]
    if not plan.problems and (status.spec_hash != plan.spec_hash or [stage.name for stage in status.stages] != planned):
        status = _replanned(situation, status)
    return Draft(status.model_copy(update={"observed_generation": situation.job.generation}))


def _replanned(situation: Situation, status: DistillationJobStatus) -> DistillationJobStatus:
    """Preflight has to look again; what it finds decides which finished stages stay. Until then they keep what they were."""
    plan = situation.plan
    before = {stage.name: stage for stage in status.stages}
    stages = [_kept(before.get(planned.name, StageStatus(name=planned.name))) for planned in plan.stages if planned.name != PREFLIGHT]
    preflight = StageStatus(name=PREFLIGHT, hash=plan.spec_hash, runs=before[PREFLIGHT].runs if PREFLIGHT in before else 0)
    change = {"stages": [preflight, *stages], "spec_hash": plan.spec_hash, "config_map": plan.config_map, "progress": None}
    return status.model_copy(update=change)


def _kept(stage: StageStatus) -> StageStatus:
    return stage.model_copy(update={"state": "Suspended", "job_name": None}) if is_open(stage) else stage

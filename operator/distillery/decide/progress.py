"""How far a job is: reports of its pods, taken over at most every so often; a percentage that never falls."""

from __future__ import annotations

from distillery.api.kinds import kind_of
from distillery.api.result import Progress
from distillery.api.status import JobProgress, StageProgress, StageStatus
from distillery.conditions import clip
from distillery.timestamps import seconds_since

from .situation import SATISFIED, Draft, Situation, is_open


def take_reports(situation: Situation, draft: Draft) -> Draft:
    """The newest report of each running stage, unless its last one was written a moment ago."""
    for stage in draft.status.stages:
        report = situation.observed.progress.get(stage.name)
        if report is not None and stage.state == "Running" and report.hash in ("", stage.hash) and _is_due(situation, stage):
            draft = _taken(situation, draft, stage, report)
    return draft


def seconds_to_report(situation: Situation, draft: Draft) -> float | None:
    """Until the next report may be taken over; None while no stage runs or there is no gateway."""
    running = [stage for stage in draft.status.stages if stage.state == "Running" and is_open(stage)]
    if not running or situation.plan.settings.gateway_url is None:
        return None
    every = situation.plan.settings.progress_seconds
    ages = [_age(situation, stage) for stage in running]
    return min(max(every - age, 1.0) if age is not None and age < every else every for age in ages)


def measure(draft: Draft) -> Draft:
    """The percentage of the whole job, and the longest of the running stages' own estimates."""
    stages = draft.status.stages
    total = sum(_weight(stage) for stage in stages)
    done = sum(_weight(stage) * _part(stage) for stage in stages)
    before = draft.status.progress.percentage if draft.status.progress else 0
    ended = draft.verdict is not None and draft.verdict.status == "True"
    percentage = 100 if ended else max(before, min(99, int(done / total))) if total else 0
    estimates = [
        stage.progress.estimated_remaining_seconds
        for stage in stages
        if stage.state == "Running" and stage.progress and stage.progress.estimated_remaining_seconds is not None
    ]
    return draft.with_status(progress=JobProgress(percentage=percentage, estimated_remaining_seconds=max(estimates, default=None)))


def _is_due(situation: Situation, stage: StageStatus) -> bool:
    age = _age(situation, stage)
    return age is None or age >= situation.plan.settings.progress_seconds


def _age(situation: Situation, stage: StageStatus) -> float | None:
    if stage.progress is None or stage.progress.observed_time is None:
        return None
    return seconds_since(stage.progress.observed_time, situation.now)


def _taken(situation: Situation, draft: Draft, stage: StageStatus, report: Progress) -> Draft:
    told = report.model_dump(include={"percentage", "estimated_remaining_seconds", "done", "total", "unit"})
    progress = StageProgress(**told, checkpoint_step=situation.checkpoint(stage), observed_time=situation.stamp)
    same = stage.progress is not None and progress.model_copy(update={"observed_time": stage.progress.observed_time}) == stage.progress
    if same:
        return draft
    message = clip(report.message) if report.message else stage.message
    return draft.with_stage(stage.name, progress=progress, metrics=report.metrics, message=message)


def _weight(stage: StageStatus) -> int:
    kind = kind_of(stage.name)
    return kind.weight if kind else 0


def _part(stage: StageStatus) -> int:
    if stage.state in SATISFIED:
        return 100
    return stage.progress.percentage if stage.progress else 0

"""What the policies of `decide` pass on to each other: the situation they judge, and the draft of the status they write.

The status is the log of intents. A run is *open* from the moment that its number and name stand in the status until its outcome does.
Children are created only for runs that are open in the status that was read, and deleted only if their run is not; so whoever reads an
old status, or dies between two calls, can do nothing that the next pass would not do as well.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any, Literal

from distillery.api import reasons
from distillery.api.status import DistillationJobStatus, StageStatus
from distillery.body import Body as Body
from distillery.conditions import Verdict, status_of
from distillery.observe import DistillationJob, Observed
from distillery.plan import Plan
from distillery.runs import Run
from distillery.timestamps import stamp

#: Runs of a stage, one after another, that may end from outside without a new checkpoint.
MOST_STALE_RUNS = 20
SATISFIED = ("Succeeded", "Reused")


@dataclass(frozen=True)
class Situation:
    """The input of a decision."""

    job: DistillationJob
    plan: Plan
    observed: Observed
    now: datetime

    @property
    def stamp(self) -> str:
        """Now, as the API writes it."""
        return stamp(self.now)

    def checkpoint(self, stage: StageStatus) -> int | None:
        """The last step of a stage that is safe in the store, by its newest report."""
        report = self.observed.progress.get(stage.name)
        told = report.checkpoint_step if report and report.hash in ("", stage.hash) else None
        known = stage.progress.checkpoint_step if stage.progress else None
        return max((step for step in (told, known) if step is not None), default=None)


@dataclass(frozen=True)
class Draft:
    """The status to be, and what no field of it says: the verdict that ends the job, and how far a suspension is."""

    status: DistillationJobStatus
    verdict: Verdict | None = None
    suspension: Literal["none", "stopping", "done"] = "none"

    def stage(self, name: str) -> StageStatus:
        """One stage by name; KeyError if it is not planned."""
        for stage in self.status.stages:
            if stage.name == name:
                return stage
        raise KeyError(name)

    def with_status(self, **change: Any) -> Draft:
        """Other fields of the status."""
        return replace(self, status=self.status.model_copy(update=change))

    def with_stage(self, name: str, **change: Any) -> Draft:
        """Other fields of one stage."""
        return self.with_status(stages=[s.model_copy(update=change) if s.name == name else s for s in self.status.stages])

    def ended(self, reason: str, message: str, success: bool = False) -> Draft:
        """With a verdict, unless there is one already: the first cause counts."""
        return self if self.verdict else replace(self, verdict=Verdict("True" if success else "False", reason, message))


@dataclass(frozen=True)
class Deletion:
    """A batch Job, or the DistillationJob itself, to delete if it still has this uid."""

    kind: Literal["Job", "DistillationJob"]
    name: str
    uid: str


@dataclass(frozen=True)
class Decision:
    """What to do, in this order: create, delete, tell, write the status, look again after some seconds (None: when something moves)."""

    status: DistillationJobStatus
    create: tuple[Body, ...] = ()
    delete: tuple[Deletion, ...] = ()
    events: tuple[Body, ...] = field(default=())
    requeue_after: float | None = None


def is_over(status: DistillationJobStatus) -> bool:
    """Whether the job has ended; terminal is terminal."""
    return status_of(status.conditions, reasons.SUCCEEDED) in ("True", "False")


def is_open(stage: StageStatus) -> bool:
    """Whether a run of the stage has begun whose outcome is not yet written down."""
    return stage.job_name is not None and stage.state in ("Pending", "Waiting", "Running")


def open_names(status: DistillationJobStatus) -> frozenset[str]:
    """The names of the batch Jobs that should be there."""
    if is_over(status):
        return frozenset()
    return frozenset(stage.job_name for stage in status.stages if is_open(stage) and stage.job_name)


def named_children(job: DistillationJob, plan: Plan) -> frozenset[str] | None:
    """The names of all batch Jobs that can matter, where the status that was read tells them; None: list them all.

    It does while the job simply goes on: each stage is done, has never run, or has an open run whose Job was created. Before a run is
    opened its predecessors have ended with all their pods, so a stage that is done has left nothing alive.
    """
    status = job.status
    if job.suspend or job.cancel or is_over(status) or status.budget_claimed or status.spec_hash != plan.spec_hash:
        return None
    if status_of(status.conditions, reasons.SUSPENDED) == "True":
        return None
    going = [stage for stage in status.stages if is_open(stage) and stage.run_start_time is not None]
    simple = all(stage in going or stage.state == "Succeeded" or stage.runs == 0 for stage in status.stages)
    return frozenset(stage.job_name for stage in going if stage.job_name) if simple and going else None


def accepted(situation: Situation, stage: StageStatus) -> dict[str, Any]:
    """What changes in a stage when the Job of its run is there."""
    return {
        "state": "Running",
        "start_time": stage.start_time or situation.stamp,
        "run_start_time": situation.stamp,
        "reason": None,
        "message": None,
    }


def is_outdated(situation: Situation) -> bool:
    """Whether a child is newer than the status that was read: then the status is old, and nothing may follow from it."""
    runs = {stage.name: stage.runs for stage in situation.job.status.stages}
    return any(run.live and run.number > runs.get(run.stage, 0) for run in situation.observed.runs.values())


def unfinished(observed: Observed) -> list[Run]:
    """The runs that have, or may yet have, a pod."""
    return [run for run in observed.runs.values() if run.live]

"""What is there: the API's dicts of a job and of a budget, and all else that one pass has read (batch Jobs and Pods: `runs`).

Pure; what tenants write of a ConfigMap never raises.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from .allowance import Allowance
from .api import process, reasons
from .api.budget import TeacherBudgetStatus
from .api.result import Progress
from .api.status import DistillationJobStatus
from .api.usage import Reservation
from .body import Body
from .runs import Run, conditions_of, controller_uid

FROZEN_KEY = process.JOB_FILE


@dataclass(frozen=True)
class DistillationJob:
    """The object itself. `spec` is as it came, since it may be one that this version refuses."""

    namespace: str
    name: str
    uid: str
    resource_version: str
    generation: int
    spec: Body
    status: DistillationJobStatus
    deleting: bool = False

    @property
    def suspend(self) -> bool:
        """Whether the user asks for a pause, even in a spec that is invalid otherwise."""
        return self.spec.get("suspend") is True

    @property
    def cancel(self) -> bool:
        """Whether the user has given the job up."""
        return self.spec.get("cancel") is True

    @property
    def ttl_seconds(self) -> int | None:
        """How long the finished object is kept."""
        found = self.spec.get("ttlSecondsAfterFinished")
        return found if isinstance(found, int) and found >= 0 else None


@dataclass(frozen=True)
class TeacherBudget:
    """A budget itself. `spec` is as it came."""

    namespace: str
    name: str
    uid: str
    resource_version: str
    generation: int
    spec: Body
    status: TeacherBudgetStatus
    deleting: bool = False


@dataclass(frozen=True)
class Refusal:
    """The API server's word on a child that it did not create. `final`: it never will."""

    message: str
    final: bool = False


class Silence(NamedTuple):
    """The gateway's answer where it gave none, and why: nothing is bought until it does."""

    message: str


@dataclass(frozen=True)
class Observed:
    """Everything that was read for one pass, beside the job.

    `runs` by name; `events` by the uid of the object that they are about; `refusals` by the name of the child that this pass
    tried to create; `money` is what the gateway answered to this pass's claim, or its silence in words.
    """

    runs: Mapping[str, Run] = field(default_factory=dict)
    stray_pods: int = 0
    config_map: Body | None = None
    progress: Mapping[str, Progress] = field(default_factory=dict)
    events: Mapping[str, Sequence[Body]] = field(default_factory=dict)
    refusals: Mapping[str, Refusal] = field(default_factory=dict)
    allowance: Allowance | None = None
    money: Reservation | Silence | None = None

    def of(self, stage: str) -> list[Run]:
        """The runs of a stage, oldest first."""
        return sorted((run for run in self.runs.values() if run.stage == stage), key=lambda run: run.number)


def job_from(body: Body) -> DistillationJob:
    """A DistillationJob as read; ValidationError if its status was not written by this operator."""
    return DistillationJob(**_common(body), status=DistillationJobStatus.model_validate(body.get("status") or {}))


def budget_from(body: Body) -> TeacherBudget:
    """A TeacherBudget as read; ValidationError if its status was not written by this operator."""
    return TeacherBudget(**_common(body), status=TeacherBudgetStatus.model_validate(body.get("status") or {}))


def _common(body: Body) -> dict[str, Any]:
    """The fields that both kinds have."""
    meta = body["metadata"]
    return {
        "namespace": meta["namespace"],
        "name": meta["name"],
        "uid": meta["uid"],
        "resource_version": meta["resourceVersion"],
        "generation": meta.get("generation", 1),
        "spec": body.get("spec") or {},
        "deleting": "deletionTimestamp" in meta,
    }


def has_ended(job: Body) -> bool:
    """Whether a DistillationJob, as it is written, has succeeded or failed; terminal is terminal."""
    return any(c["type"] == reasons.SUCCEEDED and c["status"] in ("True", "False") for c in conditions_of(job))


def is_settled(job: Body) -> bool:
    """Whether nothing is to be done for a DistillationJob any more: it has ended, owes no budget, stays, and was not edited since."""
    if not has_ended(job) or "ttlSecondsAfterFinished" in job["spec"] or job["status"].get("budgetClaimed"):
        return False
    return bool(job["status"].get("observedGeneration") == job["metadata"].get("generation", 1))


def frozen_image(config_map: Body | None, uid: str) -> str | None:
    """The trainer image in a job's ConfigMap; None if the ConfigMap is not of this uid, or holds no frozen job."""
    if config_map is None or controller_uid(config_map) != uid:
        return None
    try:
        frozen = json.loads(config_map.get("data", {}).get(FROZEN_KEY, ""))
        return str(frozen["trainerImage"]) if frozen["uid"] == uid else None
    except (ValueError, TypeError, KeyError):
        return None

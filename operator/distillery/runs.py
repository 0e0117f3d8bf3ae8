"""What is there of a stage: the API's dicts of batch Jobs and Pods, reduced to what decisions need.

Pure and total: objects are partly written by tenants, so a malformed child is left out and never raises.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal

from .api.result import TERMINATED
from .body import Body, controller
from .settings import STAGE_LABEL
from .timestamps import moment

HASH_ANNOTATION = "distillery.dev/hash"
RUN_ANNOTATION = "distillery.dev/run"
_INDEX_LABEL = "batch.kubernetes.io/job-completion-index"
#: The kubelet's three sentences for a limit of ephemeral storage: of an emptyDir, of a container, of the pod.
_OVERRUN = re.compile(r"exceeds the limit|exceeded its local ephemeral storage limit|exceeds the total limit of containers")


@dataclass(frozen=True)
class Pod:
    """One pod of a run. `text` is the termination message of its container."""

    name: str
    uid: str
    phase: str
    created: datetime
    deleting: bool = False
    disrupted: str | None = None
    eviction: str | None = None
    exit_code: int | None = None
    terminated_reason: str = ""
    text: str = ""
    finished_at: str | None = None
    running: bool = False
    waiting_reason: str = ""
    waiting_message: str = ""
    unscheduled: str = ""
    shard: int = 0

    @property
    def ended(self) -> bool:
        """Whether it will never run again."""
        return self.phase in ("Succeeded", "Failed")

    @property
    def overran(self) -> bool:
        """Whether it was evicted for what it wrote itself: another run would write as much. A node that is full is not its fault."""
        return self.eviction is not None and _OVERRUN.search(self.eviction) is not None

    @property
    def interrupted(self) -> bool:
        """Whether it was ended from outside, or ended itself in good order on SIGTERM: not a failure of the stage."""
        from_outside = self.disrupted is not None or self.eviction is not None or self.deleting
        return self.phase == "Failed" and not self.overran and (from_outside or self.exit_code == TERMINATED)


@dataclass(frozen=True)
class Run:
    """One batch Job of a stage."""

    name: str
    uid: str
    stage: str
    hash: str
    number: int
    created: datetime
    started: str | None = None
    active: int = 0
    suspended: bool = False
    deleting: bool = False
    finished: Literal["Complete", "Failed"] | None = None
    finished_at: str | None = None
    pods: tuple[Pod, ...] = ()

    @property
    def idle_since(self) -> datetime:
        """The last time that anything was seen to happen: the Job was created or let go, a pod came or went."""
        ends = [moment(pod.finished_at) for pod in self.pods if pod.finished_at]
        starts = [moment(self.started)] if self.started else []
        return max([self.created, *starts, *(pod.created for pod in self.pods), *ends])

    @property
    def interruptions(self) -> int:
        """How often the pod of one shard was interrupted and replaced, of the shard that it befell most often."""
        return max(Counter(pod.shard for pod in self.pods if pod.interrupted).values(), default=0)

    @property
    def live(self) -> bool:
        """Whether it may still have a pod."""
        return self.finished is None or any(not pod.ended for pod in self.pods)


def runs_from(jobs: Sequence[Body], pods: Sequence[Body]) -> tuple[dict[str, Run], int]:
    """The runs by name, and how many pods that have not ended belong to none of them (their Job was deleted without them)."""
    by_owner: dict[str, list[Pod]] = {}
    for body in pods:
        by_owner.setdefault(controller_uid(body), []).append(_pod(body))
    runs = [run for body in jobs if (run := _run(body, by_owner.get(body["metadata"]["uid"], ()))) is not None]
    known = {run.uid for run in runs}
    strays = sum(not pod.ended for uid, owned in by_owner.items() if uid not in known for pod in owned)
    return {run.name: run for run in runs}, strays


def controller_uid(body: Body) -> str:
    """The uid of the controller of an object; empty if it has none."""
    return str((controller(body) or {}).get("uid", ""))


def _run(body: Body, pods: Sequence[Pod]) -> Run | None:
    meta, status = body["metadata"], body.get("status") or {}
    labels, annotations = meta.get("labels") or {}, meta.get("annotations") or {}
    number = annotations.get(RUN_ANNOTATION, "")
    if STAGE_LABEL not in labels or HASH_ANNOTATION not in annotations or not number.isdecimal():
        return None
    finish = ended(body)
    return Run(
        name=meta["name"],
        uid=meta["uid"],
        stage=labels[STAGE_LABEL],
        hash=annotations[HASH_ANNOTATION],
        number=int(number),
        created=_created(meta),
        started=status.get("startTime"),
        active=status.get("active") or 0,
        suspended=is_suspended(body),
        deleting="deletionTimestamp" in meta,
        finished=finish["type"] if finish else None,
        finished_at=finish.get("lastTransitionTime") if finish else None,
        pods=tuple(sorted(pods, key=lambda pod: (pod.created, pod.name))),
    )


def is_suspended(body: Body) -> bool:
    """Whether a batch Job is held back, by a user or by a queue."""
    return (body.get("spec") or {}).get("suspend") is True


def ended(body: Body) -> Body | None:
    """The condition that ended a batch Job, if it has ended."""
    conditions = conditions_of(body)
    return next((c for c in conditions if c["type"] in ("Complete", "Failed") and c["status"] == "True"), None)


def conditions_of(body: Body) -> Sequence[Body]:
    """The conditions in the status of an object."""
    return (body.get("status") or {}).get("conditions") or ()


def _created(meta: Body) -> datetime:
    return moment(meta["creationTimestamp"]) if meta.get("creationTimestamp") else datetime.fromtimestamp(0, UTC)


def _pod(body: Body) -> Pod:
    meta, status = body["metadata"], body.get("status") or {}
    container: Body = next(iter(status.get("containerStatuses") or ()), {})
    state = container.get("state") or {}
    terminated, waiting = state.get("terminated") or {}, state.get("waiting") or {}
    conditions = {c["type"]: c for c in conditions_of(body)}
    scheduled, disrupted = conditions.get("PodScheduled", {}), conditions.get("DisruptionTarget", {})
    phase = status.get("phase", "Pending")
    return Pod(
        name=meta["name"],
        uid=meta["uid"],
        phase=phase,
        created=_created(meta),
        deleting="deletionTimestamp" in meta,
        disrupted=str(disrupted.get("reason") or "Disrupted") if disrupted.get("status") == "True" else None,
        eviction=str(status.get("message") or "evicted") if status.get("reason") == "Evicted" else None,
        exit_code=terminated.get("exitCode"),
        terminated_reason=terminated.get("reason") or "",
        text=terminated.get("message") or "",
        finished_at=terminated.get("finishedAt"),
        running=phase == "Running" and "running" in state,
        waiting_reason=waiting.get("reason") or "",
        waiting_message=waiting.get("message") or "",
        unscheduled=str(scheduled.get("message") or "") if scheduled.get("status") == "False" else "",
        shard=int(index) if (index := (meta.get("labels") or {}).get(_INDEX_LABEL, "")).isdecimal() else 0,
    )

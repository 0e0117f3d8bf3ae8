"""May this pod spend money now? Only a pod of the run that the operator has announced for a job's traces, while job, run and pod go on.

Who a caller is, `identity` proves, and keeps for a minute. What may change meanwhile is looked at again here: the DistillationJob with its
standing, the batch Job and the Pod by themselves.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Protocol

from distillery.api import reasons
from distillery.api.kinds import TRACES
from distillery.cluster import Body
from distillery.observe import has_ended
from distillery.runs import ended, is_suspended

from .errors import Refused
from .identity import StagePod, live
from .recent import Recent

#: A change of a batch Job or of a Pod counts after at most so many seconds: two reads for each pod that asks, in that time.
RUN_SECONDS = 5.0


class Runs(Protocol):
    """The reads of the API server that tell whether a run goes on."""

    async def get_pod(self, namespace: str, name: str) -> Body:
        """A Pod. NotFound."""

    async def get_child(self, kind: str, namespace: str, name: str) -> Body:
        """A batch/v1 Job. NotFound."""


@dataclass(frozen=True)
class Permit:
    """What a DistillationJob says about spending: the batch Job whose pods may, or why none may (a reason and a sentence)."""

    run: str | None
    refused: tuple[str, str] | None = None

    def check(self) -> None:
        """Refused where nothing is spent for this job any more, or not yet."""
        if self.refused is not None:
            raise Refused(403, *self.refused)


def permit_of(job: Body) -> Permit:
    """The permit of a DistillationJob as it is written; nothing of it has to be there."""
    name, spec, status = f"DistillationJob {job['metadata']['name']}", job.get("spec") or {}, job.get("status") or {}
    run = next((stage.get("jobName") for stage in status.get("stages") or () if stage.get("name") == TRACES), None)
    if "deletionTimestamp" in job["metadata"]:
        return Permit(run, (reasons.BEING_DELETED, f"{name} is being deleted"))
    if has_ended(job):
        return Permit(run, (reasons.JOB_ENDED, f"{name} has ended"))
    if spec.get("cancel") is True:
        return Permit(run, (reasons.CANCELLED, f"{name} is cancelled"))
    if spec.get("suspend") is True:
        return Permit(run, (reasons.SUSPENDED, f"{name} is suspended"))
    if not status.get("budgetClaimed"):
        return Permit(
            run, (reasons.NOT_RESERVED, f"{name} has no money set aside: the operator reserves it before the traces stage begins")
        )
    return Permit(run)


class Permits:
    """Verdicts on pods that ask, each kept for `RUN_SECONDS`. `clock` is monotonic."""

    def __init__(self, objects: Runs, clock: Callable[[], float]) -> None:
        self._objects = objects
        self._alive: Recent[StagePod, bool] = Recent(clock, RUN_SECONDS)

    async def check(self, pod: StagePod, permit: Permit) -> None:
        """Refused where this pod may not spend; ClusterError where the API server does not answer."""
        if pod.stage != TRACES:
            raise Refused(403, reasons.NOT_THE_TRACES, f"pod {pod.pod} runs stage {pod.stage!r}; only the traces stage asks a teacher")
        permit.check()
        if permit.run != pod.run:
            text = f"pod {pod.pod} belongs to Job {pod.run}, and the run that DistillationJob {pod.job} has announced is {permit.run}"
            raise Refused(403, reasons.ANOTHER_RUN, text)
        await self._alive.get(pod, lambda: self._look(pod))

    async def _look(self, pod: StagePod) -> bool:
        run, body = await asyncio.gather(
            _staying(f"Job {pod.run}", pod.run_uid, self._objects.get_child("Job", pod.namespace, pod.run)),
            _staying(f"Pod {pod.pod}", pod.pod_uid, self._objects.get_pod(pod.namespace, pod.pod)),
        )
        if ended(run):
            raise Refused(403, reasons.RUN_ENDED, f"Job {pod.run} has ended")
        if is_suspended(run):
            raise Refused(403, reasons.SUSPENDED, f"Job {pod.run} is suspended")
        phase = (body.get("status") or {}).get("phase")
        if phase in ("Succeeded", "Failed"):
            raise Refused(403, reasons.POD_ENDED, f"Pod {pod.pod} has ended: its phase is {phase}")
        return True


async def _staying(what: str, uid: str, reading: Awaitable[Body]) -> Body:
    body = await live(what, uid, reading)
    if "deletionTimestamp" in body["metadata"]:
        raise Refused(403, reasons.BEING_DELETED, f"{what} is being deleted")
    return body

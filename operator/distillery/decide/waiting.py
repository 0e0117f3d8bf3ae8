"""Why a child has no running pod, and what helps: taken from the pod, and from the Events about the Job and the pod."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import NamedTuple

from distillery.api import reasons
from distillery.api.stages import Stage
from distillery.api.status import StageStatus
from distillery.body import Body
from distillery.conditions import clip
from distillery.plan import scheduling_field
from distillery.runs import Pod, Run

from .situation import MOST_STALE_RUNS, Draft, Situation, is_open

#: A pod that starts in this time needs no explanation.
GRACE_SECONDS = 30.0
#: How often is tried again, or looked at, what no watch event of ours tells: a child that was refused, a pod that lost its Job.
WAITING_SECONDS = 30.0
#: What has not said why it waits is looked at again and again, after twice the time each; from this age on the resync does it.
PATIENCE_SECONDS = 240.0


class Explanation(NamedTuple):
    """A reason for programs, a sentence with the remedy for people."""

    reason: str
    message: str


class _Sign(NamedTuple):
    """Words of Kubernetes, what they mean, and what helps; `{0}` is what the expression's first group found."""

    words: re.Pattern[str]
    reason: str
    remedy: str


_ADMISSION = "an admission rule of the cluster refuses the pod: ask your platform team"
_SIGNS = tuple(
    _Sign(re.compile(words, re.IGNORECASE), reason, remedy)
    for words, reason, remedy in (
        (r'secret "?([^" ]+)"? not found', reasons.SECRET_MISSING, 'create Secret "{0}" in the namespace of the job'),
        (r"couldn't find key (\S+) in Secret", reasons.SECRET_MISSING, "add key {0} to that Secret"),
        (r'serviceaccount "?([^" ]+)"? not found', reasons.SERVICE_ACCOUNT_MISSING, 'create ServiceAccount "{0}" there'),
        (r'persistentvolumeclaim "?([^" ]+)"? not found', reasons.VOLUME_UNAVAILABLE, 'create PersistentVolumeClaim "{0}"'),
        (r"unbound immediate PersistentVolumeClaims", reasons.VOLUME_UNAVAILABLE, "see why the claim is not bound: kubectl describe pvc"),
        (r"no PriorityClass with name (\S+) was found", reasons.POD_REFUSED, 'create PriorityClass "{0}"'),
        (r'runtimeclass(?:es)?[^"]*"?([^" ]+)"? not found', reasons.POD_REFUSED, 'create RuntimeClass "{0}"'),
        (r"exceeded quota", reasons.QUOTA_EXCEEDED, "wait until other pods of the namespace end, or have the ResourceQuota raised"),
        (r"violates PodSecurity", reasons.POD_REFUSED, "the namespace admits no pod of this kind: ask your platform team"),
        (r"ImagePullBackOff|ErrImagePull|InvalidImageName|ErrImageNeverPull", reasons.IMAGE_UNAVAILABLE,
         "check that the image exists and that spec.scheduling.imagePullSecrets names a Secret that may pull it"),
        (r"Insufficient (\S+)|nodes are available|node affinity|untolerated taint", reasons.UNSCHEDULABLE,
         "add such a node, or change resources, nodeSelector, tolerations or affinity in {field}"),
        (r"FailedMount|FailedAttachVolume", reasons.VOLUME_UNAVAILABLE, "see the volume: kubectl describe pod"),
        (r"is forbidden", reasons.POD_REFUSED, _ADMISSION),
    )
)  # fmt: skip


def needs_explaining(run: Run, now: datetime) -> bool:
    """Whether a run has gone without a running pod for longer than a pod takes to start."""
    return seconds_to_explain(run, now) == 0


def seconds_to_explain(run: Run, now: datetime) -> float | None:
    """Until a run without a running pod has to be explained; None: that does not apply."""
    idle = run.finished is None and not run.deleting and not run.suspended and not _runs(run)
    return max(0.0, GRACE_SECONDS - (now - run.idle_since).total_seconds()) if idle else None


def seconds_to_look(run: Run | None, events: Mapping[str, Sequence[Body]], now: datetime) -> float | None:
    """Until an open run that is not there, or has no running pod, is looked at again; None where only an event can tell more: a Job that
    its controller begins with, or a pod that runs or ends. What waits has said why by then, and costs nothing while it goes on waiting."""
    if run is None:
        return WAITING_SECONDS
    explained_in = seconds_to_explain(run, now)
    if explained_in is None or explained_in > 0:
        return explained_in
    if _has_said(run, events):
        return None
    age = (now - run.idle_since).total_seconds()
    return age if age < PATIENCE_SECONDS else None


def _has_said(run: Run, events: Mapping[str, Sequence[Body]]) -> bool:
    """Whether a run has told why nothing runs, or its Job controller has yet to: to begin with it, or to count its pods."""
    pod = _awaited(run)
    if pod is not None:
        return _said(pod) is not None or _warning(events.get(pod.uid, ())) is not None
    return run.started is None or bool(run.active) or _warning(events.get(run.uid, ())) is not None


def watch(situation: Situation, draft: Draft) -> Draft:
    """The state and message of every open run that is still going."""
    for planned in situation.plan.stages:
        stage = draft.stage(planned.name)
        run = situation.observed.runs.get(stage.job_name or "")
        if not is_open(stage) or run is None or run.finished or run.deleting:
            continue
        draft = _watched(situation, draft, planned, stage, run)
    return draft


def unexplained(run: Run, now: datetime) -> str | None:
    """The uid of the object whose Events may explain a run: its pod if that says nothing itself, or the Job if by its own account it has no
    pod. Where the Job controller has not yet begun with a Job, or not yet counted its pods that ended, there are none to read."""
    if not needs_explaining(run, now):
        return None
    pod = _awaited(run)
    if pod is not None:
        return None if _said(pod) else pod.uid
    return run.uid if run.started and not run.active else None


def explain(run: Run, events: Mapping[str, Sequence[Body]], field: str) -> Explanation:
    """Why nothing runs: the newest pod's own words or else the Events about it; without a pod the Events about the Job."""
    pod = _awaited(run)
    if pod is not None:
        words = _said(pod) or _warning(events.get(pod.uid, ())) or f"pod {pod.name} is {pod.waiting_reason or pod.phase}"
    elif not run.started:
        words = f"Job {run.name} was not begun yet by the Job controller of Kubernetes"
    elif run.active:
        words = f"what the pods of Job {run.name} did was not seen yet by the Job controller of Kubernetes"
    else:
        words = _warning(events.get(run.uid, ())) or f"Job {run.name} has no running pod yet"
    return understand(words, field)


def understand(words: str, field: str) -> Explanation:
    """What words of Kubernetes mean for the job; `field` is where the manifest schedules the stage."""
    for sign in _SIGNS:
        if match := sign.words.search(words):
            remedy = sign.remedy.format(*(match.groups() or ("",)), field=field)
            return Explanation(sign.reason, clip(f"{words}; {remedy}. The job goes on by itself"))
    return Explanation(reasons.WAITING, clip(words))


def _watched(situation: Situation, draft: Draft, planned: Stage, stage: StageStatus, run: Run) -> Draft:
    if run.suspended:
        message = f"Job {run.name} waits for quota: kubectl get workloads"
        return draft.with_stage(stage.name, state="Waiting", reason=reasons.WAITING_FOR_QUOTA, message=message)
    if (looped := _looped(situation, draft, stage, run)) is not None:
        return looped
    if _runs(run):
        return draft.with_stage(stage.name, state="Running", reason=None, message=_resumed(stage, run))
    if not needs_explaining(run, situation.now):
        return draft
    found = explain(run, situation.observed.events, scheduling_field(planned))
    return draft.with_stage(stage.name, state="Waiting", reason=found.reason, message=found.message)


def _looped(situation: Situation, draft: Draft, stage: StageStatus, run: Run) -> Draft | None:
    """A Job whose pods were interrupted again and again: the Job controller replaces them without end, so the end is ours."""
    stops = run.interruptions
    if stops < MOST_STALE_RUNS:
        return None
    step = situation.checkpoint(stage)
    if step is not None and step > (stage.run_checkpoint_step or 0):
        message = f"Job {run.name} was interrupted {stops} times; it made progress, so a new one goes on"
        return draft.with_stage(stage.name, state="Pending", job_name=None, stale_runs=0, completion_time=situation.stamp, message=message)
    message = f"{stops} pods in a row were interrupted without a new checkpoint"
    failed = draft.with_stage(stage.name, state="Failed", reason=reasons.NO_PROGRESS, message=message, completion_time=situation.stamp)
    return failed.ended(reasons.NO_PROGRESS, f"stage {stage.name}: {message}")


def _resumed(stage: StageStatus, run: Run) -> str | None:
    """The message of a running stage: its own, or else how often it was interrupted."""
    stops = run.interruptions
    if stage.state == "Running" and (stage.message or not stops):
        return stage.message
    return f"goes on after {stops} interruption{'s' * (stops > 1)}" if stops else None


def _runs(run: Run) -> bool:
    return any(pod.running for pod in run.pods)


def _awaited(run: Run) -> Pod | None:
    """The newest pod that may yet run."""
    return next((pod for pod in reversed(run.pods) if not pod.ended), None)


def _said(pod: Pod) -> str | None:
    """A pod's own word on why it does not run."""
    if pod.waiting_reason and pod.waiting_reason not in ("ContainerCreating", "PodInitializing"):
        return f"pod {pod.name}: {pod.waiting_reason}: {pod.waiting_message}"
    return f"pod {pod.name}: {pod.unscheduled}" if pod.unscheduled else None


def _warning(events: Sequence[Body]) -> str | None:
    """The newest Warning, without the random names of the pods that came to nothing, so that the same cause reads the same."""
    warnings = [event for event in events if event.get("type") == "Warning"]
    if not warnings:
        return None
    newest = max(warnings, key=lambda event: str(event.get("lastTimestamp") or event.get("eventTime") or ""))
    text = re.sub(r'pods "([^"]+)-[a-z0-9]{5}"', r'pods "\1"', str(newest.get("message") or ""))
    return f"{newest.get('reason')}: {text}"

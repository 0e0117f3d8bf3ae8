"""Which watch events can matter: the filter between the watches and the queue. It can cause a pass too many, never one too few.

A stage of a job causes some eight events, of which one or two tell anything: the others are our own writes that come back, and steps of
the Job controller's accounts. A pass costs three requests or more, so passes that can find nothing are most of the load on an API server.

What is left out, and why that is safe:

- The version of an object that a write of this process returned. The pass that wrote it knew all that is in it; unless that is a new Job
  which a queue (Kueue's webhook) holds back: then it is for a pass to say so.
- A Job in which nothing that a pass reads differs from the last time. `active` is not read: that a pod was made matters when it runs
  (`ready`), ends, or after half a minute does not run; the last is a delay that the pass which created the Job asked for. Where by then
  the Job controller had not even begun with the Job, that it begins is news.
- A DistillationJob for which nothing is to be done any more, and its Jobs that have ended. (What it has left running, because the operator
  died when it was to be deleted, is told by that Job.)
- A Job whose controller is half way through counting pods that have ended (`uncountedTerminatedPods`): its next write follows at once.

Each of these is remembered, within bounds, by the process that saw it; what is forgotten, or was seen by a process before, is news. An
event that is lost for another reason costs at most the time to the next resync, as it always did.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import TypeVar

from .body import Body
from .decide.waiting import GRACE_SECONDS
from .observe import is_settled
from .runs import HASH_ANNOTATION, RUN_ANNOTATION, ended, is_suspended
from .settings import STAGE_LABEL, UID_LABEL
from .timestamps import moment

K = TypeVar("K")
V = TypeVar("V")
#: Jobs that have not finished or are settled, a few hundred bytes each; and writes of ours, which come back within seconds.
MOST_SEEN, MOST_WRITTEN = 20_000, 5_000


class News:
    """What this process has written, what it last saw of each Job that has not finished, and which DistillationJobs are settled."""

    def __init__(self) -> None:
        self._settled: OrderedDict[str, None] = OrderedDict()
        self._written: OrderedDict[tuple[str, str], None] = OrderedDict()
        self._seen: OrderedDict[str, tuple[object, ...]] = OrderedDict()

    def wrote(self, body: Body) -> None:
        """The API server answered a write of ours with this object."""
        _keep(self._written, _version(body), None, MOST_WRITTEN)

    def of_job(self, body: Body) -> bool:
        """Whether a DistillationJob may hold something new."""
        if is_settled(body):
            _keep(self._settled, body["metadata"]["uid"], None, MOST_SEEN)
            return False
        return _version(body) not in self._written

    def of_child(self, body: Body, gone: bool) -> bool:
        """Whether a batch Job may hold something new; `gone`: it was deleted."""
        uid = body["metadata"]["uid"]
        before, now = self._seen.get(uid), facts(body)
        if gone or ended(body):
            self._seen.pop(uid, None)
            return (body["metadata"].get("labels") or {}).get(UID_LABEL) not in self._settled
        if _is_counting(body) and "deletionTimestamp" not in body["metadata"]:
            return False
        _keep(self._seen, uid, now, MOST_SEEN)
        return before != now and (is_suspended(body) or _version(body) not in self._written)


def _keep(held: OrderedDict[K, V], key: K, value: V, most: int) -> None:
    """As the newest; the oldest goes for it where there are too many."""
    held[key] = value
    held.move_to_end(key)
    if len(held) > most:
        held.popitem(last=False)


def _version(body: Body) -> tuple[str, str]:
    return body["metadata"]["uid"], body["metadata"]["resourceVersion"]


def facts(body: Body) -> tuple[object, ...]:
    """All of a batch Job that a pass reads, or that tells it to read the pods: the pods that run or have gone well (so that the end of a
    good pod is told by the end of its Job alone), those that failed, and those that are going."""
    meta, status = body["metadata"], body.get("status") or {}
    labels, annotations = meta.get("labels") or {}, meta.get("annotations") or {}
    return (
        labels.get(STAGE_LABEL),
        annotations.get(HASH_ANNOTATION),
        annotations.get(RUN_ANNOTATION),
        is_suspended(body),
        "deletionTimestamp" in meta,
        (status.get("ready") or 0) + (status.get("succeeded") or 0),
        status.get("failed") or 0,
        status.get("terminating") or 0,
        _began_late(meta, status),
    )


def _began_late(meta: Body, status: Body) -> bool:
    """Whether the Job controller has begun with a Job that had waited for it so long that a pass has said so, and set no other delay."""
    made, began = meta.get("creationTimestamp"), status.get("startTime")
    return bool(made and began) and (moment(str(began)) - moment(str(made))).total_seconds() >= GRACE_SECONDS


def _is_counting(body: Body) -> bool:
    counting = (body.get("status") or {}).get("uncountedTerminatedPods") or {}
    return bool(counting.get("succeeded") or counting.get("failed"))

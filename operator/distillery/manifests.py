"""What the operator creates: the frozen job's ConfigMap, a batch Job per run of a stage, Events.

Pure. Children are created once under a name that says which run they are, and never changed.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from .api.base import API_VERSION
from .api.digest import digest
from .api.job import MUTABLE, DistillationJobSpec, FrozenJob
from .api.process import arguments
from .api.result import TERMINATED
from .api.stages import Stage
from .body import Body
from .observe import FROZEN_KEY, DistillationJob, TeacherBudget
from .plan import Plan, child_name, shards_of
from .pod import CONTAINER, pod_spec
from .runs import HASH_ANNOTATION, RUN_ANNOTATION
from .settings import JOB_LABEL, MANAGED_BY, STAGE_LABEL, UID_LABEL

QUEUE_LABEL = "kueue.x-k8s.io/queue-name"
KIND = "DistillationJob"


def config_map(job: DistillationJob, plan: Plan, spec: DistillationJobSpec) -> Body:
    """The immutable ConfigMap that pods of this spec see as /etc/distillery/job.json; it fixes the trainer image."""
    unset = {name: field.default for name, field in DistillationJobSpec.model_fields.items() if field.alias in MUTABLE or name in MUTABLE}
    frozen = FrozenJob(
        namespace=job.namespace,
        name=job.name,
        uid=job.uid,
        trainer_image=plan.settings.trainer_image,
        spec=spec.model_copy(update=unset),
    )
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": _metadata(job, plan.config_map),
        "immutable": True,
        "data": {FROZEN_KEY: json.dumps(frozen.wire(), sort_keys=True, separators=(",", ":"), ensure_ascii=False)},
    }


def stage_job(
    job: DistillationJob, plan: Plan, spec: DistillationJobSpec, stage: Stage, image: str, hashes: Mapping[str, str], run: int
) -> Body:
    """The batch Job of one run of a stage. `hashes` has the stage's own and those of the stages before it, as far as they are known."""
    labels = _metadata(job, "")["labels"] | {STAGE_LABEL: stage.name}
    annotations = {HASH_ANNOTATION: hashes[stage.name], RUN_ANNOTATION: str(run)}
    metadata = _metadata(job, child_name(job.name, stage.name, hashes[stage.name], run))
    queue = spec.scheduling.queue_name
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {
            **metadata,
            "labels": labels | ({QUEUE_LABEL: queue} if queue else {}),
            "annotations": annotations,
        },
        "spec": {
            # Kueue starts it; and where Kueue is not there, a queued Job must not slip past its queue.
            **({"suspend": True} if queue else {}),
            **_indexed(shards_of(spec, stage)),
            "backoffLimit": 0,
            "podReplacementPolicy": "Failed",
            "podFailurePolicy": {
                "rules": [
                    {"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}]},
                    {"action": "Ignore", "onExitCodes": {"containerName": CONTAINER, "operator": "In", "values": [TERMINATED]}},
                ]
            },
            "template": {
                "metadata": {"labels": labels, "annotations": annotations},
                "spec": pod_spec(job, plan, spec, stage, image, arguments(stage, hashes)),
            },
        },
    }


def _indexed(shards: int | None) -> Body:
    """A pod per shard, told which by JOB_COMPLETION_INDEX; one that is preempted is replaced by one of its index."""
    return {} if shards is None else {"completionMode": "Indexed", "completions": shards, "parallelism": shards}


def event(about: DistillationJob | TeacherBudget, kind: str, reason: str, note: str, occasion: str, now: datetime) -> Body:
    """An Event about an object of ours. `occasion` tells the same reason's occasions apart; the same has the same name: told once."""
    regarding = {"kind": type(about).__name__, "namespace": about.namespace, "name": about.name, "uid": about.uid}
    name = digest({"uid": about.uid, "type": kind, "reason": reason, "occasion": occasion})[:16]
    return {
        "apiVersion": "events.k8s.io/v1",
        "kind": "Event",
        "metadata": {"name": f"{about.name}.{name}", "namespace": about.namespace},
        "eventTime": now.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ"),
        "type": kind,
        "reason": reason,
        "note": note,
        "action": "Reconcile",
        "reportingController": "distillery.dev/operator",
        "reportingInstance": "distillery-operator",
        "regarding": {"apiVersion": API_VERSION, **regarding},
    }


def _metadata(job: DistillationJob, name: str) -> dict[str, Any]:
    """Name, our labels, and the owner. Labels and annotations of the owner are not passed on: GitOps tools track by them.

    No blockOwnerDeletion: it would need the permission to change finalizers, and deletion waits for nothing here.
    """
    return {
        "name": name,
        "namespace": job.namespace,
        "labels": {
            "app.kubernetes.io/name": "distillery",
            MANAGED_BY[0]: MANAGED_BY[1],
            JOB_LABEL: job.name,
            UID_LABEL: job.uid,
        },
        "ownerReferences": [{"apiVersion": API_VERSION, "kind": KIND, "name": job.name, "uid": job.uid, "controller": True}],
    }

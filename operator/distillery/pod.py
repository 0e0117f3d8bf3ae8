"""The pod of a stage: restricted, without API token, with the credentials and claims of that stage alone.

Pure. `manifests` wraps it into a batch Job.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from .api import process
from .api.inputs import OUTPUT, Input
from .api.job import DistillationJobSpec
from .api.stages import Stage
from .body import Body
from .observe import DistillationJob
from .plan import Plan, asks_teacher, inputs_of, scheduling_of
from .settings import GATEWAY_AUDIENCE

CONTAINER = "stage"
USER = 65532
PROGRESS_PATH = "/v1/progress"
#: The keys of a credentials Secret; others never reach a pod.
_KEYS = (
    "AWS_ACCESS_KEY_ID",
    "AWS_SECRET_ACCESS_KEY",
    "AWS_SESSION_TOKEN",
    "AWS_REGION",
    "AWS_ENDPOINT_URL",
    "HF_TOKEN",
    "HF_ENDPOINT",
)
#: Keys that a Secret for such a URI must have. The kubelet holds a pod back, and says why, until they are there: a Secret that is
#: applied after the job, or lacks its key, is named in the status and heals by itself. Were all keys optional, it would be missed.
_REQUIRED = {"s3": ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"), "hf": ("HF_TOKEN",)}


def pod_spec(job: DistillationJob, plan: Plan, spec: DistillationJobSpec, stage: Stage, image: str, arguments: Sequence[str]) -> Body:
    """The spec of the pod that runs `distill <arguments>` in `image`."""
    scheduling, place = spec.scheduling, scheduling_of(spec, stage)
    touched = inputs_of(spec, stage)
    resources, scratch = place.resources.wire(), plan.settings.scratch
    own = resources.get("limits", {}).get("ephemeral-storage")
    folders = {"tmp": scratch["tmp"], "work": own or scratch["work"]}
    volumes = [*_volumes(plan, touched, folders), *(_shared_memory(scratch["shm"]) if _has_device(resources) else ())]
    optional: Body = {
        "priorityClassName": scheduling.priority_class_name,
        "serviceAccountName": scheduling.service_account_name,
        "runtimeClassName": scheduling.runtime_class_name,
        "imagePullSecrets": [secret.wire() for secret in scheduling.image_pull_secrets],
        "nodeSelector": dict(place.node_selector),
        "tolerations": [toleration.wire() for toleration in place.tolerations],
        "affinity": place.affinity.wire() if place.affinity else None,
    }
    return {
        "restartPolicy": "Never",
        "terminationGracePeriodSeconds": scheduling.termination_grace_period_seconds,
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": USER,
            "runAsGroup": USER,
            "fsGroup": USER,
            "fsGroupChangePolicy": "OnRootMismatch",
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        **{name: value for name, value in optional.items() if value},
        "containers": [
            {
                "name": CONTAINER,
                "image": image,
                "imagePullPolicy": plan.settings.image_pull_policy,
                "command": [process.PROGRAM],
                "args": list(arguments),
                "env": _environment(plan, touched, asks_teacher(spec, stage)),
                "resources": {name: value for name, value in resources.items() if value},
                "terminationMessagePolicy": "FallbackToLogsOnError",
                "securityContext": {
                    "allowPrivilegeEscalation": False,
                    "readOnlyRootFilesystem": True,
                    "capabilities": {"drop": ["ALL"]},
                },
                "volumeMounts": [mount for _, mount in volumes],
            }
        ],
        "volumes": [volume for volume, _ in volumes],
    }


def _environment(plan: Plan, touched: Sequence[Input], asks: bool) -> list[Body]:
    ours = {"HOME": process.WORK_FOLDER, "HF_HOME": f"{process.WORK_FOLDER}/hf", process.WORK: process.WORK_FOLDER}
    if plan.settings.gateway_url:
        gateway = plan.settings.gateway_url.rstrip("/")
        ours[process.PROGRESS_URL] = gateway + PROGRESS_PATH
        ours[process.TOKEN_FILE] = f"{process.TOKEN_FOLDER}/token"
        if asks:
            ours[process.GATEWAY_URL] = gateway
    values = {**plan.settings.stage_env, **ours}
    plain = [{"name": name, "value": value} for name, value in values.items()]
    return plain + [entry for named in touched if named.secret for entry in _credentials(named, named.secret)]


def _credentials(named: Input, secret: str) -> Iterator[Body]:
    required = _REQUIRED.get(named.uri.split("://", 1)[0], ())
    for key in _KEYS:
        reference: Body = {"name": secret, "key": key, **({} if key in required else {"optional": True})}
        yield {"name": f"{named.role.prefix}{key}", "valueFrom": {"secretKeyRef": reference}}


def _volumes(plan: Plan, touched: Sequence[Input], folders: Mapping[str, Any]) -> Iterator[tuple[Body, Body]]:
    """Each volume with its mount; `folders` are the empty ones, and the most that each may hold."""
    name = plan.config_map
    yield (
        {"name": "job", "configMap": {"name": name}},
        {"name": "job", "mountPath": process.JOB_FOLDER, "readOnly": True},
    )
    for folder, size in folders.items():
        yield {"name": folder, "emptyDir": {"sizeLimit": size}}, {"name": folder, "mountPath": f"/{folder}"}
    if plan.settings.gateway_url:
        token = {"serviceAccountToken": {"audience": GATEWAY_AUDIENCE, "expirationSeconds": 3600, "path": "token"}}
        yield (
            {"name": "token", "projected": {"sources": [token]}},
            {"name": "token", "mountPath": process.TOKEN_FOLDER, "readOnly": True},
        )
    writable = {named.claim for named in touched if named.role.name == OUTPUT}
    claims = sorted({named.claim for named in touched if named.claim is not None})
    for number, claim in enumerate(claims):
        read_only = {} if claim in writable else {"readOnly": True}
        volume = {"name": f"claim-{number}", "persistentVolumeClaim": {"claimName": claim, **read_only}}
        yield volume, {"name": f"claim-{number}", "mountPath": f"{process.VOLUMES_FOLDER}/{claim}", **read_only}


def _has_device(resources: Body) -> bool:
    """Whether an extended resource is asked for, by Kubernetes' own rule: a name with a domain that is not Kubernetes'. Accelerators have
    names of any kind."""
    return any("/" in name and "kubernetes.io/" not in name for kind in resources.values() for name in kind)


def _shared_memory(size: str) -> Iterator[tuple[Body, Body]]:
    """Accelerators' libraries and torch's workers share tensors through /dev/shm, of which a container has 64 MiB by default."""
    yield {"name": "shm", "emptyDir": {"medium": "Memory", "sizeLimit": size}}, {"name": "shm", "mountPath": "/dev/shm"}

"""What an installation decides: set by flags and environment, read everywhere, changed never.

Floor 1, so that pure modules can take it as an argument.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

#: On every child and, server-side, the selector of the watch on Jobs.
MANAGED_BY = ("app.kubernetes.io/managed-by", "distillery")
#: On every child: the name of its DistillationJob.
JOB_LABEL = "distillery.dev/job"
#: On every child Pod and Job: the uid of its DistillationJob, which tells pods of a deleted namesake apart.
UID_LABEL = "distillery.dev/uid"
#: On every child Pod and Job: the stage it runs.
STAGE_LABEL = "distillery.dev/stage"
#: The audience of the ServiceAccount tokens that the gateway takes; stage pods and the operator mount one each.
GATEWAY_AUDIENCE = "distillery-gateway"


@dataclass(frozen=True)
class Settings:
    """One installation of the operator."""

    trainer_image: str = "distillery-trainer:latest"
    """Image of the stage pods; frozen into each job when it starts."""
    image_pull_policy: str = "IfNotPresent"
    """imagePullPolicy of the stage pods."""
    gateway_url: str | None = None
    """Where pods report progress and the operator reads it; None means no progress, and nothing else is lost."""
    scratch: Mapping[str, str] = field(default_factory=lambda: {"work": "500Gi", "tmp": "8Gi", "shm": "16Gi"})
    """Most that a stage pod may write to each of its emptyDirs; its own limit of ephemeral storage counts in place of `work`."""
    stage_env: Mapping[str, str] = field(default_factory=dict)
    """Environment of every stage pod, for example HF_ENDPOINT or a proxy."""
    namespaces: tuple[str, ...] = ()
    """Namespaces to watch; empty means all."""
    resync_seconds: float = 300.0
    """Every so often, plus or minus a tenth, all jobs that have not ended are looked at again."""
    progress_seconds: float = 30.0
    """How often a running stage's progress is read from the gateway and written to the status."""
    concurrency: int = 10
    """How many jobs are reconciled at once."""

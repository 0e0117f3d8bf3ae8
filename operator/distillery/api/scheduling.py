"""Where stages run: the pod fields that a platform team steers by."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, StringConstraints

from .base import DnsLabel, LocalRef, Model, ObjectName

Quantity = Annotated[str, StringConstraints(pattern=r"^[0-9]+(\.[0-9]+)?(m|k|Ki|M|Mi|G|Gi|T|Ti|P|Pi)?$", max_length=24)]
LabelValue = Annotated[str, StringConstraints(max_length=63)]
ResourceName = Annotated[str, StringConstraints(max_length=253)]
INT_OR_STRING = {"x-kubernetes-int-or-string": True}


class Resources(Model):
    """As a container's resources; GPUs are asked for by limits, for example nvidia.com/gpu: 1."""

    requests: dict[ResourceName, Quantity | int] = Field(default={}, max_length=16, description="What is reserved.")
    limits: dict[ResourceName, Quantity | int] = Field(
        default={}, max_length=16, description="What is never exceeded; extended resources go here."
    )


class Toleration(Model):
    """As a pod's toleration."""

    key: Annotated[str, Field(max_length=317)] | None = Field(None, description="Taint key; absent with operator Exists means every taint.")
    operator: Literal["Exists", "Equal"] | None = Field(None, description="Equal (default) compares value, Exists does not.")
    value: LabelValue | None = Field(None, description="Taint value.")
    effect: Literal["NoSchedule", "PreferNoSchedule", "NoExecute"] | None = Field(
        None, description="Taint effect; absent means every effect."
    )
    toleration_seconds: int | None = Field(None, ge=0, description="With NoExecute: how long the pod may stay.")


class StageScheduling(Model):
    """Pod fields of one stage."""

    resources: Resources = Field(default_factory=Resources, description="Resources of the stage's container.")
    node_selector: dict[ResourceName, LabelValue] = Field(default={}, max_length=16, description="Labels that the node must have.")
    tolerations: Annotated[list[Toleration], Field(max_length=16)] = Field(default=[], description="Taints that the pod tolerates.")
    affinity: dict[str, Any] | None = Field(
        None, description="As a pod's affinity.", json_schema_extra={"x-kubernetes-preserve-unknown-fields": True}
    )


class Stages(Model):
    """Pod fields by stage; exports have their own."""

    preflight: StageScheduling = Field(default_factory=StageScheduling, description="Checks inputs; light, CPU.")
    traces: StageScheduling = Field(default_factory=StageScheduling, description="Loads the teacher.")
    curate: StageScheduling = Field(default_factory=StageScheduling, description="Filters rows; light, CPU.")
    train: StageScheduling = Field(default_factory=StageScheduling, description="Trains the student.")
    evaluate: StageScheduling = Field(default_factory=StageScheduling, description="Runs the student on held-out rows.")
    publish: StageScheduling = Field(default_factory=StageScheduling, description="Copies and writes the model card; light, CPU.")


class Scheduling(Model):
    """Pod fields of all stages, and by stage."""

    queue_name: DnsLabel | None = Field(None, description="Kueue LocalQueue; becomes the label kueue.x-k8s.io/queue-name of each Job.")
    priority_class_name: ObjectName | None = Field(None, description="PriorityClass of the pods.")
    service_account_name: ObjectName | None = Field(
        None,
        description="ServiceAccount of the pods, for workload identity; needs no RoleBinding, its API token is not mounted. Default: 'default'.",
    )
    image_pull_secrets: Annotated[list[LocalRef], Field(max_length=8)] = Field(
        default=[], description="Secrets for pulling the trainer image."
    )
    runtime_class_name: ObjectName | None = Field(None, description="RuntimeClass of the pods, for example nvidia.")
    termination_grace_period_seconds: int = Field(120, ge=1, le=3600, description="Time that a stopped stage has to write its checkpoint.")
    stages: Stages = Field(default_factory=Stages, description="Pod fields by stage.")

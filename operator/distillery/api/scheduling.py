"""Where stages run: the pod fields that a platform team steers by."""

from __future__ import annotations

import re
from typing import Annotated, ClassVar, Literal

from pydantic import Field, StringConstraints

from .affinity import Affinity
from .base import DnsLabel, LocalRef, Model, ObjectName
from .rules import Rule, Spelling

Quantity = Annotated[
    Annotated[str, StringConstraints(max_length=24)] | int,
    Spelling(r"^[0-9]+(\.[0-9]+)?(m|k|Ki|M|Mi|G|Gi|T|Ti|P|Pi)?$", "must be a quantity, for example 500m, 2 or 16Gi"),
]
LabelValue = Annotated[
    str,
    StringConstraints(max_length=63),
    Spelling(
        r"^(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?$",
        "must be a label's value: letters, digits, '-', '_' and '.', first and last a letter or digit",
    ),
]
ResourceName = Annotated[str, StringConstraints(max_length=253)]
_KEY = r"^([a-z0-9][-a-z0-9.]{0,251}/)?[A-Za-z0-9][-A-Za-z0-9_.]{0,62}$"


def _whole(quantity: str | int) -> bool:
    return re.fullmatch("[0-9]+", str(quantity)) is not None


class Resources(Model):
    """As a container's resources; GPUs are asked for by limits, for example nvidia.com/gpu: 1."""

    RULES: ClassVar[tuple[Rule, ...]] = (
        Rule(
            "!has(self.requests) || self.requests.all(k, !k.contains('/') || (has(self.limits) && k in self.limits))",
            "an extended resource, for example nvidia.com/gpu, goes under 'limits'",
            lambda m: all("/" not in name or name in m.limits for name in m.requests),
        ),
        Rule(
            "!has(self.limits) || self.limits.all(k, !k.contains('/') || string(self.limits[k]).matches('^[0-9]+$'))",
            "an extended resource, for example nvidia.com/gpu, is asked for in whole numbers",
            lambda m: all("/" not in name or _whole(quantity) for name, quantity in m.limits.items()),
        ),
    )
    requests: dict[ResourceName, Quantity] = Field(
        default={}, max_length=16, description="What is reserved, for example cpu: 4, memory: 16Gi."
    )
    limits: dict[ResourceName, Quantity] = Field(
        default={}, max_length=16, description="What is never exceeded; extended resources go here."
    )


class Toleration(Model):
    """As a pod's toleration."""

    RULES: ClassVar[tuple[Rule, ...]] = (
        Rule(
            "has(self.key) || (has(self.operator) && self.operator == 'Exists')",
            "a toleration without 'key' tolerates every taint: say so with operator: Exists, or give 'key'",
            lambda m: m.key is not None or m.operator == "Exists",
        ),
        Rule(
            "!has(self.value) || !has(self.operator) || self.operator != 'Exists'",
            "operator Exists compares no value: remove 'value', or use operator Equal",
            lambda m: m.value is None or m.operator != "Exists",
        ),
        Rule(
            "!has(self.tolerationSeconds) || (has(self.effect) && self.effect == 'NoExecute')",
            "tolerationSeconds works with effect NoExecute alone",
            lambda m: m.toleration_seconds is None or m.effect == "NoExecute",
        ),
    )
    key: Annotated[str, Field(max_length=317)] | None = Field(None, description="Taint key; absent with operator Exists means every taint.")
    operator: Literal["Exists", "Equal"] | None = Field(None, description="Equal (default) compares value, Exists does not.")
    value: LabelValue | None = Field(None, description="Taint value.")
    effect: Literal["NoSchedule", "PreferNoSchedule", "NoExecute"] | None = Field(
        None, description="Taint effect; absent means every effect."
    )
    toleration_seconds: int | None = Field(None, ge=0, description="With NoExecute: how long the pod may stay.")


class StageScheduling(Model):
    """Pod fields of one stage."""

    RULES: ClassVar[tuple[Rule, ...]] = (
        Rule(
            f"!has(self.nodeSelector) || self.nodeSelector.all(k, k.matches(r'{_KEY}'))",
            "nodeSelector's keys are names of labels, for example kubernetes.io/arch",
            lambda m: all(re.fullmatch(_KEY, key) for key in m.node_selector),
        ),
    )
    resources: Resources = Field(default_factory=Resources, description="Resources of the stage's container.")
    node_selector: dict[ResourceName, LabelValue] = Field(default={}, max_length=16, description="Labels that the node must have.")
    tolerations: Annotated[list[Toleration], Field(max_length=16)] = Field(default=[], description="Taints that the pod tolerates.")
    affinity: Affinity | None = Field(None, description="As a pod's affinity, for what nodeSelector cannot say.")


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

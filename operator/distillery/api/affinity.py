"""A pod's affinity, field by field: what is misspelt is refused when the job is applied, not when a stage's pod is made hours later."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from .base import Model

Key = Annotated[str, Field(min_length=1, max_length=317)]
Values = Annotated[list[Annotated[str, Field(max_length=63)]], Field(max_length=32)]
Weight = Annotated[int, Field(ge=1, le=100)]


class NodeRequirement(Model):
    """As NodeSelectorRequirement."""

    key: Key = Field(description="Label of the node.")
    operator: Literal["In", "NotIn", "Exists", "DoesNotExist", "Gt", "Lt"] = Field(description="How the label is compared with values.")
    values: Values = Field(default=[], description="For In and NotIn at least one; for Gt and Lt one integer; else none.")


class NodeTerm(Model):
    """Requirements that must all hold."""

    match_expressions: Annotated[list[NodeRequirement], Field(max_length=16)] = Field(default=[], description="On labels of the node.")
    match_fields: Annotated[list[NodeRequirement], Field(max_length=4)] = Field(
        default=[], description="On fields of the node: metadata.name."
    )


class RequiredNodes(Model):
    """Terms of which one must hold."""

    node_selector_terms: Annotated[list[NodeTerm], Field(min_length=1, max_length=16)] = Field(description="At least one must hold.")


class PreferredNodes(Model):
    """A term that counts in scoring."""

    weight: Weight = Field(description="1 to 100, added to a node's score where the term holds.")
    preference: NodeTerm = Field(description="The term.")


class NodeAffinity(Model):
    """On which nodes."""

    required_during_scheduling_ignored_during_execution: RequiredNodes | None = Field(None, description="Nodes that qualify.")
    preferred_during_scheduling_ignored_during_execution: Annotated[list[PreferredNodes], Field(max_length=16)] = Field(
        default=[], description="Nodes that are taken first."
    )


class LabelRequirement(Model):
    """As LabelSelectorRequirement."""

    key: Key = Field(description="Label of the pod.")
    operator: Literal["In", "NotIn", "Exists", "DoesNotExist"] = Field(description="How the label is compared with values.")
    values: Values = Field(default=[], description="For In and NotIn at least one; else none.")


class LabelSelector(Model):
    """As LabelSelector."""

    match_labels: dict[Annotated[str, Field(max_length=317)], Annotated[str, Field(max_length=63)]] = Field(
        default={}, max_length=16, description="Labels with their values."
    )
    match_expressions: Annotated[list[LabelRequirement], Field(max_length=16)] = Field(default=[], description="Must all hold.")


class PodTerm(Model):
    """Pods, and how near to them."""

    label_selector: LabelSelector | None = Field(None, description="Which pods.")
    topology_key: Key = Field(description="Label of nodes that says what near means, for example kubernetes.io/hostname.")
    namespaces: Annotated[list[Annotated[str, Field(max_length=63)]], Field(max_length=16)] = Field(
        default=[], description="Namespaces of those pods; the job's own if empty."
    )


class PreferredPods(Model):
    """A term that counts in scoring."""

    weight: Weight = Field(description="1 to 100, added to a node's score where the term holds.")
    pod_affinity_term: PodTerm = Field(description="The term.")


class PodAffinity(Model):
    """Near to, or away from, other pods."""

    required_during_scheduling_ignored_during_execution: Annotated[list[PodTerm], Field(max_length=16)] = Field(
        default=[], description="Must all hold."
    )
    preferred_during_scheduling_ignored_during_execution: Annotated[list[PreferredPods], Field(max_length=16)] = Field(
        default=[], description="Counted in scoring."
    )


class Affinity(Model):
    """As a pod's affinity."""

    node_affinity: NodeAffinity | None = Field(None, description="On which nodes.")
    pod_affinity: PodAffinity | None = Field(None, description="Near to which pods.")
    pod_anti_affinity: PodAffinity | None = Field(None, description="Away from which pods.")

"""The CustomResourceDefinition, from the models: schema, columns, names, and the rules that see the whole object."""

from __future__ import annotations

from typing import Any

from .base import GROUP, VERSION
from .job import FROZEN, DistillationJobSpec
from .rules import VALIDATIONS
from .schema import schema_of
from .status import DistillationJobStatus

_NAME = (
    "size(self.metadata.name) <= 40 && self.metadata.name.matches('^[a-z]([-a-z0-9]*[a-z0-9])?$')",
    "metadata.name must be a DNS label of at most 40 characters that starts with a letter: names of stage Jobs are made from it",
)


def frozen_rule() -> dict[str, str]:
    """Once started, a job's frozen fields change only while it is fully suspended. (`oldSelf` is the whole object before the change.)"""
    same = " && ".join(
        f"(has(self.spec.{f}) == has(oldSelf.spec.{f}) && (!has(self.spec.{f}) || self.spec.{f} == oldSelf.spec.{f}))" for f in FROZEN
    )
    free = (
        "!has(oldSelf.status) || !has(oldSelf.status.startTime) || !has(oldSelf.status.conditions)"
        " || oldSelf.status.conditions.exists(c, c.type == 'Suspended' && c.status == 'True')"
    )
    return {
        "rule": f"{free} || ({same})",
        "message": "a started job's spec cannot change: set spec.suspend to true, wait for condition Suspended=True, then edit and resume; or create a new job",
        "fieldPath": ".spec",
        "reason": "FieldValueForbidden",
    }


def _column(name: str, kind: str, path: str, **more: Any) -> dict[str, Any]:
    return {"name": name, "type": kind, "jsonPath": path, **more}


def _condition(kind: str, field: str) -> str:
    return f'.status.conditions[?(@.type=="{kind}")].{field}'


COLUMNS = [
    _column("Phase", "string", ".status.phase", description="For reading; programs look at the condition Succeeded."),
    _column("Progress", "integer", ".status.progress.percentage", description="Percent of the whole job."),
    _column("Retention", "string", '.status.evaluation.results[?(@.metric=="retention")].student', description="Student / teacher."),
    _column("Succeeded", "string", _condition("Succeeded", "status"), description="Unknown while the job goes on."),
    _column("Age", "date", ".metadata.creationTimestamp"),
    _column("Reason", "string", _condition("Succeeded", "reason"), priority=1),
    _column("Queue", "string", ".spec.scheduling.queueName", priority=1),
    _column("Model", "string", ".status.modelURI", priority=1),
]


def _object_schema() -> dict[str, Any]:
    return {
        "type": "object",
        "description": "Distils a smaller student from a teacher model: traces, training, evaluation, export, publication.",
        "required": ["spec"],
        "properties": {
            "apiVersion": {"type": "string", "description": f"{GROUP}/{VERSION}."},
            "kind": {"type": "string", "description": "DistillationJob."},
            "metadata": {"type": "object"},
            "spec": schema_of(DistillationJobSpec),
            "status": schema_of(DistillationJobStatus),
        },
        VALIDATIONS: [{"rule": _NAME[0], "message": _NAME[1]}, frozen_rule()],
    }


def distillation_job_crd() -> dict[str, Any]:
    """The CustomResourceDefinition of DistillationJob."""
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"distillationjobs.{GROUP}"},
        "spec": {
            "group": GROUP,
            "scope": "Namespaced",
            "names": {
                "kind": "DistillationJob",
                "listKind": "DistillationJobList",
                "plural": "distillationjobs",
                "singular": "distillationjob",
                "shortNames": ["dj"],
                "categories": ["distillery"],
            },
            "versions": [
                {
                    "name": VERSION,
                    "served": True,
                    "storage": True,
                    "subresources": {"status": {}},
                    "selectableFields": [{"jsonPath": ".status.phase"}, {"jsonPath": ".spec.scheduling.queueName"}],
                    "additionalPrinterColumns": COLUMNS,
                    "schema": {"openAPIV3Schema": _object_schema()},
                }
            ],
        },
    }

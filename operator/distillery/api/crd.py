"""The CustomResourceDefinition, from the models: schema, columns, names, and the rules that see the whole object."""

from __future__ import annotations

from typing import Any

from .base import GROUP, VERSION, Model
from .budget import TeacherBudgetSpec, TeacherBudgetStatus
from .job import FROZEN, DistillationJobSpec
from .rules import VALIDATIONS
from .schema import schema_of
from .status import DistillationJobStatus

#: The status that the API server gives an object until the operator has written one: without it kstatus takes an object that nobody has
#: looked at for one that is as it should be.
NOT_OBSERVED = {"observedGeneration": -1}
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


JOB_COLUMNS = [
    _column("Phase", "string", ".status.phase", description="For reading; programs look at the condition Succeeded."),
    _column("Progress", "integer", ".status.progress.percentage", description="Percent of the whole job."),
    _column("Retention", "string", '.status.evaluation.results[?(@.metric=="retention")].student', description="Student / teacher."),
    _column("Succeeded", "string", _condition("Succeeded", "status"), description="Unknown while the job goes on."),
    _column("Age", "date", ".metadata.creationTimestamp"),
    _column("Reason", "string", _condition("Succeeded", "reason"), priority=1),
    _column("Queue", "string", ".spec.scheduling.queueName", priority=1),
    _column("Model", "string", ".status.modelURI", priority=1),
]


BUDGET_COLUMNS = [
    _column("Window", "string", ".status.summary.window", description="The window with the least left."),
    _column("Limit", "string", ".status.summary.limit"),
    _column("Used", "string", ".status.summary.used", description="Paid or in doubt."),
    _column("Reserved", "string", ".status.summary.reserved", description="Held for requests and jobs under way."),
    _column("Remaining", "string", ".status.summary.remaining"),
    _column("Resets", "string", ".status.summary.resets"),
    _column("Ready", "string", _condition("Ready", "status")),
    _column("Age", "date", ".metadata.creationTimestamp"),
    _column("Reason", "string", _condition("Ready", "reason"), priority=1),
    _column("Saved", "string", ".status.saved", priority=1, description="What answers from the cache would have cost."),
]


def _object_schema(kind: str, about: str, spec: type[Model], status: type[Model], rules: list[dict[str, str]]) -> dict[str, Any]:
    return {
        "type": "object",
        "description": about,
        "required": ["spec"],
        "properties": {
            "apiVersion": {"type": "string", "description": f"{GROUP}/{VERSION}."},
            "kind": {"type": "string", "description": f"{kind}."},
            "metadata": {"type": "object"},
            "spec": schema_of(spec),
            "status": {**schema_of(status), "default": dict(NOT_OBSERVED)},
        },
        **({VALIDATIONS: rules} if rules else {}),
    }


def _crd(kind: str, short: str, columns: list[dict[str, Any]], selectable: list[str], schema: dict[str, Any]) -> dict[str, Any]:
    plural = f"{kind.lower()}s"
    version: dict[str, Any] = {
        "name": VERSION,
        "served": True,
        "storage": True,
        "subresources": {"status": {}},
        "additionalPrinterColumns": columns,
        "schema": {"openAPIV3Schema": schema},
    }
    if selectable:
        version["selectableFields"] = [{"jsonPath": path} for path in selectable]
    names = {
        "kind": kind,
        "listKind": f"{kind}List",
        "plural": plural,
        "singular": kind.lower(),
        "shortNames": [short],
        "categories": ["distillery"],
    }
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{plural}.{GROUP}"},
        "spec": {"group": GROUP, "scope": "Namespaced", "names": names, "versions": [version]},
    }


def distillation_job_crd() -> dict[str, Any]:
    """The CustomResourceDefinition of DistillationJob."""
    about = "Distils a smaller student from a teacher model: traces, training, evaluation, export, publication."
    rules = [{"rule": _NAME[0], "message": _NAME[1]}, frozen_rule()]
    schema = _object_schema("DistillationJob", about, DistillationJobSpec, DistillationJobStatus, rules)
    return _crd("DistillationJob", "dj", JOB_COLUMNS, [".status.phase", ".spec.scheduling.queueName"], schema)


def teacher_budget_crd() -> dict[str, Any]:
    """The CustomResourceDefinition of TeacherBudget."""
    about = "What a namespace may spend on teachers behind APIs, on which ones, at which prices and under which terms."
    schema = _object_schema("TeacherBudget", about, TeacherBudgetSpec, TeacherBudgetStatus, [])
    return _crd("TeacherBudget", "tb", BUDGET_COLUMNS, [], schema)

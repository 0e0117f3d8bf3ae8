"""The CRD, generated from the models: structural schema, defaults, bounds, CEL, columns.

`python -m distillery.api.crd DIR` writes the files; a test compares them with what the models say.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from .base import GROUP, VERSION
from .job import FROZEN, DistillationJobSpec
from .rules import VALIDATIONS
from .status import DistillationJobStatus

_KEPT = {
    "type", "format", "description", "properties", "required", "items", "enum", "default", "pattern", "minLength", "maxLength",
    "minItems", "maxItems", "minProperties", "maxProperties", "minimum", "maximum", "multipleOf", "additionalProperties",
}  # fmt: skip
_ABSENT = "absent unless given"
_NAME = (
    "size(self.metadata.name) <= 40 && self.metadata.name.matches('^[a-z]([-a-z0-9]*[a-z0-9])?$')",
    "metadata.name must be a DNS label of at most 40 characters that starts with a letter: names of stage Jobs are made from it",
)


def schema_of(model: type[BaseModel]) -> dict[str, Any]:
    """The structural OpenAPI v3 schema of a model: no $ref, no titles, no null types."""
    raw = model.model_json_schema(by_alias=True)
    return _structural(raw, raw.get("$defs", {}))


def _structural(node: dict[str, Any], defs: dict[str, Any]) -> dict[str, Any]:
    if "$ref" in node:
        target = defs[node["$ref"].rsplit("/", 1)[1]]
        node = {**target, **{k: v for k, v in node.items() if k != "$ref"}}
    if "allOf" in node:
        raise ValueError(f"allOf is not structural: {node}")
    if "anyOf" in node:
        options = [o for o in node["anyOf"] if o.get("type") != "null"]
        rest = {k: v for k, v in node.items() if k not in ("anyOf", "default")}
        if len(options) == 1:
            return {**_structural({**options[0], **rest}, defs), _ABSENT: True}
        return _int_or_string(options, rest)
    if "const" in node:
        node = {**node, "enum": [node["const"]]}
    out = {k: v for k, v in node.items() if k in _KEPT or k.startswith("x-kubernetes-")}
    if out.get("type") == "integer" and "format" not in out:
        out["format"] = "int64"
    if "properties" in out:
        out["properties"] = {name: _structural(child, defs) for name, child in out["properties"].items()}
        out.pop("additionalProperties", None)
    elif isinstance(out.get("additionalProperties"), dict):
        out["additionalProperties"] = _structural(out["additionalProperties"], defs)
    else:
        out.pop("additionalProperties", None)
    if "items" in out:
        out["items"] = _structural(out["items"], defs)
    if out.get("type") == "array" and "x-kubernetes-list-type" not in out:
        out["x-kubernetes-list-type"] = "atomic"
    return _with_object_default(out)


def _int_or_string(options: list[dict[str, Any]], rest: dict[str, Any]) -> dict[str, Any]:
    """A quantity: its rule speaks of a string, and CEL can write the number as one."""
    text = next(o for o in options if o.get("type") == "string")
    rules = [{**r, "rule": r["rule"].replace("self.matches", "string(self).matches")} for r in rest[VALIDATIONS]]
    return {"x-kubernetes-int-or-string": True, "maxLength": text["maxLength"], VALIDATIONS: rules}


def _with_object_default(node: dict[str, Any]) -> dict[str, Any]:
    """Where the model defaults an object that holds defaults, `{}` lets those apply. Empty lists and maps are no defaults: what the
    user did not write stays away from `kubectl get -o yaml` and from GitOps diffs."""
    for child in node.get("properties", {}).values():
        may_be_absent = child.pop(_ABSENT, False)
        if child.get("default") in ([], {}):
            del child["default"]
        if not may_be_absent and not child.get("required") and any("default" in p for p in child.get("properties", {}).values()):
            child.setdefault("default", {})
    return node


def frozen_rule() -> dict[str, Any]:
    """Once started, a job's frozen fields change only while it is fully suspended. (CEL; oldSelf is the whole object.)"""
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


def distillation_job_crd() -> dict[str, Any]:
    """The CustomResourceDefinition of DistillationJob."""
    spec, status = schema_of(DistillationJobSpec), schema_of(DistillationJobStatus)
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
                    "additionalPrinterColumns": [
                        _column("Phase", "string", ".status.phase"),
                        _column("Progress", "integer", ".status.progress.percentage", description="Percent of the whole job."),
                        _column(
                            "Retention",
                            "string",
                            '.status.evaluation.results[?(@.metric=="retention")].student',
                            description="Student / teacher.",
                        ),
                        _column("Succeeded", "string", _condition("Succeeded", "status")),
                        _column("Age", "date", ".metadata.creationTimestamp"),
                        _column("Reason", "string", _condition("Succeeded", "reason"), priority=1),
                        _column("Queue", "string", ".spec.scheduling.queueName", priority=1),
                        _column("Model", "string", ".status.modelURI", priority=1),
                    ],
                    "schema": {
                        "openAPIV3Schema": {
                            "type": "object",
                            "description": "Distils a smaller student from a teacher model: traces, training, evaluation, export, publication.",
                            "required": ["spec"],
                            "properties": {
                                "apiVersion": {"type": "string"},
                                "kind": {"type": "string"},
                                "metadata": {"type": "object"},
                                "spec": spec,
                                "status": status,
                            },
                            "x-kubernetes-validations": [{"rule": _NAME[0], "message": _NAME[1]}, frozen_rule()],
                        }
                    },
                }
            ],
        },
    }


def main() -> None:
    """Write every CRD as YAML (JSON is YAML's subset, but people read these) into the folder given."""
    import yaml

    folder = Path(sys.argv[1])
    for crd in (distillation_job_crd(),):
        text = yaml.safe_dump(json.loads(json.dumps(crd)), sort_keys=False, width=140)
        (folder / f"{crd['spec']['names']['plural']}.yaml").write_text(f"# Generated from operator/distillery/api by `make crds`.\n{text}")


if __name__ == "__main__":
    main()

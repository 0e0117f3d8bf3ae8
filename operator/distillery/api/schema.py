"""From a model to the structural OpenAPI schema that a CRD takes."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel

from .rules import VALIDATIONS

_KEPT = {
    "type", "format", "description", "properties", "required", "items", "enum", "default", "pattern", "minLength", "maxLength",
    "minItems", "maxItems", "minProperties", "maxProperties", "minimum", "maximum", "multipleOf", "additionalProperties",
}  # fmt: skip
#: Set by a field (json_schema_extra) whose default is no constant: the schema gives it none.
ABSENT = "absent unless given"


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
            return {**_structural({**options[0], **rest}, defs), ABSENT: True}
        return _int_or_string(options, rest)
    if "const" in node:
        node = {**node, "enum": [node["const"]]}
    out = {k: v for k, v in node.items() if k in _KEPT or k == ABSENT or k.startswith("x-kubernetes-")}
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
        may_be_absent = child.pop(ABSENT, False)
        if child.get("default") in ([], {}):
            del child["default"]
        if not may_be_absent and not child.get("required") and any("default" in p for p in child.get("properties", {}).values()):
            child.setdefault("default", {})
    return node

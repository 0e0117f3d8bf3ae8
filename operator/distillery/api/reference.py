"""The API reference (docs/api.md), from the CRDs."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from .job import FROZEN, MUTABLE
from .rules import VALIDATIONS

Node = dict[str, Any]


def reference(crds: list[Node]) -> str:
    """Markdown: one table per object, the rules below it. An object that stands in several places is written once."""
    lines = [
        "# API reference",
        "",
        "Generated from `operator/distillery/api` by `make crds`. `kubectl explain --recursive dj.spec` shows the same in a terminal.",
        "",
        f"Fixed once the job has started, until it is suspended: {_names(FROZEN)}. May change at any time: {_names(MUTABLE)}.",
    ]
    for crd in crds:
        version = crd["spec"]["versions"][0]
        schema = version["schema"]["openAPIV3Schema"]
        lines += ["", f"## {crd['spec']['names']['kind']} ({crd['spec']['group']}/{version['name']})", "", schema["description"]]
        lines += _rules(schema)
        written: dict[str, str] = {}
        for part in ("spec", "status"):
            lines += _object(part, schema["properties"][part], written)
    return "\n".join(lines) + "\n"


def _names(names: tuple[str, ...]) -> str:
    return ", ".join(f"`{name}`" for name in names)


def _object(path: str, node: Node, written: dict[str, str]) -> Iterator[str]:
    written[_key(node)] = path
    yield from ("", f"### {path}", "")
    yield from ("| field | type | default | meaning |", "|---|---|---|---|")
    for name, child in node["properties"].items():
        needed = " (required)" if name in node.get("required", ()) else ""
        same = written.get(_key(_inner(child)))
        meaning = child.get("description", "") + (f" As `{same}`." if same and "properties" in _inner(child) else "") + _spelling(child)
        yield f"| `{name}`{needed} | {_type(child)} | {_default(child)} | {_cell(meaning)} |"
    yield from _rules(node)
    for name, child in node["properties"].items():
        inner = _inner(child)
        if "properties" in inner and _key(inner) not in written:
            yield from _object(f"{path}.{name}{'[]' if child['type'] == 'array' else ''}", inner, written)


def _inner(node: Node) -> Node:
    """What a list or map holds, or the node itself."""
    inner: Node = node.get("items") or node.get("additionalProperties") or node
    return inner


def _key(node: Node) -> str:
    return json.dumps({k: v for k, v in node.items() if k not in ("description", "default")}, sort_keys=True)


def _type(node: Node) -> str:
    if "enum" in node:
        return " \\| ".join(f"`{value}`" for value in node["enum"])
    if node.get("x-kubernetes-int-or-string"):
        return "quantity"
    kind = node["type"]
    if kind == "array":
        return f"list of {_type(node['items'])}" + _bounds(node, "minItems", "maxItems")
    if kind == "object" and "additionalProperties" in node:
        return f"map to {_type(node['additionalProperties'])}" + _bounds(node, "minProperties", "maxProperties")
    if kind == "string":
        return "string" + _bounds(node, "minLength", "maxLength")
    return str(kind) + _bounds(node, "minimum", "maximum")


def _bounds(node: Node, low: str, high: str) -> str:
    if low in node and high in node:
        return f" ({node[low]} to {node[high]})"
    return f" (at most {node[high]})" if high in node else f" (at least {node[low]})" if low in node else ""


def _default(node: Node) -> str:
    return f"`{json.dumps(node['default'])}`" if node.get("default") not in (None, {}) else ""


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def _spelling(node: Node) -> str:
    """The first rule of a string, which says how it is written."""
    message = _inner(node).get(VALIDATIONS, [{"message": ""}])[0]["message"]
    return f" It {message}." if message.startswith("must be ") else ""


def _rules(node: Node) -> Iterator[str]:
    messages = [rule["message"] for rule in node.get(VALIDATIONS, ())]
    if messages:
        yield from ("", "Refused otherwise:", "")
        yield from (f"- {message}" for message in messages)

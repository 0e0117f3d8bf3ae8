"""The CRDs as they are committed: generated, described, bounded, without floats; examples and `rules` agree with them."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import ValidationError
from tests.bad_manifests import BAD

from distillery.api.generate import files
from distillery.api.job import FROZEN, MUTABLE, DistillationJobSpec
from distillery.api.rules import VALIDATIONS

ROOT = Path(__file__).parents[2]
CRDS = [yaml.safe_load(path.read_text()) for path in sorted((ROOT / "crds").glob("*.yaml"))]
Node = dict[str, Any]


def nodes(node: Node, path: str) -> Iterator[tuple[str, Node]]:
    """Every schema below `node`, with its path."""
    yield path, node
    for name, child in node.get("properties", {}).items():
        yield from nodes(child, f"{path}.{name}")
    for key, mark in (("items", "[]"), ("additionalProperties", "{}")):
        if isinstance(node.get(key), dict):
            yield from nodes(node[key], path + mark)


SCHEMAS = [
    found
    for crd in CRDS
    for version in crd["spec"]["versions"]
    for part in ("spec", "status")
    for found in nodes(version["schema"]["openAPIV3Schema"]["properties"][part], f"{crd['spec']['names']['kind']}.{part}")
]


@pytest.mark.parametrize("path", files())
def test_what_is_generated_is_committed(path: str) -> None:
    assert (ROOT / path).read_text() == files()[path], "run `make crds` and commit what it wrote"


def test_every_field_has_a_description() -> None:
    assert not [path for path, node in SCHEMAS if not path.endswith(("[]", "{}")) and not node.get("description")]


def test_every_string_list_and_map_is_bounded() -> None:
    open_ended = {
        "string": lambda n: "maxLength" in n or "enum" in n,
        "array": lambda n: "maxItems" in n,
        "object": lambda n: "properties" in n or "maxProperties" in n,
    }
    assert not [path for path, node in SCHEMAS if node.get("type") in open_ended and not open_ended[node["type"]](node)]


def test_there_are_no_floats_and_nothing_is_left_open() -> None:
    assert not [path for path, node in SCHEMAS if node.get("type") == "number"]
    assert not [path for path, node in SCHEMAS if node.get("x-kubernetes-preserve-unknown-fields")]


def test_lists_of_objects_with_a_name_are_maps() -> None:
    exports = dict(SCHEMAS)["DistillationJob.spec.exports"]
    assert exports["x-kubernetes-list-type"] == "map"
    assert exports["x-kubernetes-list-map-keys"] == ["name"]


def test_every_rule_has_a_message() -> None:
    assert not [path for path, node in SCHEMAS for rule in node.get(VALIDATIONS, ()) if not rule["message"]]


def test_every_rule_of_the_spec_refuses_some_bad_manifest() -> None:
    messages = {rule["message"] for path, node in SCHEMAS if ".spec" in path for rule in node.get(VALIDATIONS, ())}
    transition = {"a cancelled job stays cancelled: create a new one to run again"}
    assert not [m for m in messages - transition if not any(bad.expect in m for bad in BAD)]


def test_every_field_of_the_spec_is_frozen_or_mutable() -> None:
    assert {*FROZEN, *MUTABLE} == set(dict(SCHEMAS)["DistillationJob.spec"]["properties"])


def test_the_schema_and_the_models_have_the_same_defaults() -> None:
    spec = {"teacher": {"model": {"uri": "hf://a/b"}}, "student": {"fromTeacher": {"numHiddenLayers": 1}}}
    given = {**spec, "data": {"train": {"uri": "s3://b/rows.jsonl"}}, "output": {"uri": "s3://b/out"}}
    by_server = with_defaults(dict(SCHEMAS)["DistillationJob.spec"], given)
    assert DistillationJobSpec.model_validate(by_server) == DistillationJobSpec.model_validate(given)
    assert by_server["training"]["learningRate"] == "0.0003"


def with_defaults(schema: Node, value: Any) -> Any:
    """As the API server applies the defaults of a structural schema."""
    if isinstance(value, dict) and "properties" in schema:
        filled = {name: child["default"] for name, child in schema["properties"].items() if "default" in child} | value
        return {name: with_defaults(schema["properties"][name], child) for name, child in filled.items()}
    if isinstance(value, list):
        return [with_defaults(schema["items"], child) for child in value]
    return value


EXAMPLES = [
    (path.relative_to(ROOT), document)
    for path in sorted((ROOT / "examples").rglob("*.yaml"))
    for document in yaml.safe_load_all(path.read_text())
    if document and document["kind"] == "DistillationJob"
]


@pytest.mark.parametrize(("path", "manifest"), EXAMPLES, ids=lambda value: str(value) if isinstance(value, Path) else "")
def test_examples_are_valid(path: Path, manifest: Node) -> None:
    try:
        DistillationJobSpec.model_validate(manifest["spec"])
    except ValidationError as error:
        pytest.fail(f"{path}: {error}")


def test_the_smallest_example_is_small() -> None:
    assert len((ROOT / "examples/minimal.yaml").read_text().splitlines()) < 20

"""The hashes of stages are a promise: what a team has paid for is found again under them, by every later version.

The golden files are literal on purpose and nothing writes them anew. A hash that changes here re-buys every team's traces.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, get_args

import pytest
import yaml
from pydantic import BaseModel
from pydantic_core import PydanticUndefined, to_jsonable_python

from distillery.api.hashes import stage_hashes
from distillery.api.job import FROZEN, DistillationJobSpec
from distillery.api.kinds import KINDS
from distillery.api.stages import planned_stages

ROOT = Path(__file__).parents[3]
GOLDEN = Path(__file__).parent / "golden"
HASHES: dict[str, dict[str, str]] = yaml.safe_load((GOLDEN / "stage-hashes.yaml").read_text())
#: Of every input that a spec may name.
DIGESTS = dict.fromkeys(("teacher", "tokenizer", "traces", "student", "train", "evaluation"), "0" * 64)
#: Decides where and when pods run, never what they make.
_NOT_HASHED = ("scheduling", "budgetRef", "governance", "output")


def jobs() -> dict[str, DistillationJobSpec]:
    """The spec of every DistillationJob among the examples, by its path below examples/."""
    found = {}
    for path in sorted((ROOT / "examples").rglob("*.yaml")):
        for body in yaml.safe_load_all(path.read_text()):
            if body and body["kind"] == "DistillationJob":
                found[str(path.relative_to(ROOT / "examples"))] = DistillationJobSpec.model_validate(body["spec"])
    return found


def test_every_example_has_its_golden_hashes() -> None:
    assert sorted(jobs()) == sorted(HASHES)


@pytest.mark.parametrize("name", sorted(HASHES))
def test_the_stages_of_an_example_hash_as_they_always_did(name: str) -> None:
    assert stage_hashes(jobs()[name], DIGESTS, "o") == HASHES[name]


def test_every_kind_of_stage_is_among_the_golden_hashes() -> None:
    kinds = {stage.kind for spec in jobs().values() for stage in planned_stages(spec)[1:]}
    assert kinds == {kind.name for kind in KINDS.values() if kind.format}


def test_the_formats_are_pinned() -> None:
    """A number that is raised here makes every job run that stage again, and all that read it: say in the commit why it must be."""
    formats = {kind.name: kind.format for kind in KINDS.values() if kind.format}
    assert formats == {"traces": 1, "curate": 1, "train": 2, "evaluate": 1, "export": 1, "publish": 1}


def test_no_default_of_the_spec_has_changed() -> None:
    """Hashes leave defaults out, so a changed default would reuse what was made with the old one: it has to raise the stage's format.
    A new field adds its line to the golden file."""
    golden = yaml.safe_load((GOLDEN / "defaults.yaml").read_text())
    assert defaults_of(DistillationJobSpec) == golden


def defaults_of(model: type[BaseModel], path: str = "") -> dict[str, Any]:
    """Every default below a model that may enter a hash and is not empty, by the field's path."""
    found: dict[str, Any] = {}
    for field in model.model_fields.values():
        name = f"{path}{field.alias}"
        if not path and (name not in FROZEN or name in _NOT_HASHED):
            continue
        if field.default is not PydanticUndefined and field.default not in (None, [], {}):
            found[name] = to_jsonable_python(field.default)
        for inner in models_in(field.annotation):
            found |= defaults_of(inner, f"{name}.")
    return found


def models_in(annotation: Any) -> list[type[BaseModel]]:
    """The models that a field's type holds."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [model for part in get_args(annotation) for model in models_in(part)]

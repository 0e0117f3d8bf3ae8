"""What the API server refuses, the models refuse too: a local run, which has no API server, is told the same."""

import pytest
from pydantic import ValidationError
from tests.bad_manifests import BAD, Bad

from distillery.api.base import Model
from distillery.api.budget import TeacherBudgetSpec
from distillery.api.job import DistillationJobSpec
from distillery.api.problems import problems

SPECS: dict[str, type[Model]] = {"DistillationJob": DistillationJobSpec, "TeacherBudget": TeacherBudgetSpec}
#: Words of the API server for which pydantic has its own.
SCHEMA_WORDS = (
    "Required value",
    "unknown field",
    "must be of type",
    "upported value",
    "should be ",
    "Duplicate value",
    "must have at most",
    "may not be",
)
#: Words of pydantic, which say nothing to whoever wrote a manifest.
LIBRARY_WORDS = ("Input", "Extra inputs", "Field required", "instance of", "validat", "default factory", "valid string", "should")


def test_there_are_enough_bad_manifests() -> None:
    assert len(BAD) >= 30


@pytest.mark.parametrize("bad", [bad for bad in BAD if bad.local], ids=lambda bad: bad.name)
def test_a_bad_spec_is_refused_by_field(bad: Bad) -> None:
    with pytest.raises(ValidationError) as refused:
        SPECS[bad.manifest["kind"]].model_validate(bad.manifest["spec"])
    found = [line.partition(": ") for line in problems(refused.value, "spec")]
    assert len(found) == 1
    assert not any(word in found[0][2] for word in LIBRARY_WORDS)
    about = [message for path, _, message in found if names(bad.field, path, message)]
    assert about, found
    if not any(word in bad.expect for word in SCHEMA_WORDS):
        assert any(bad.expect in message for message in about)


def names(field: str, path: str, message: str) -> bool:
    """Whether a problem speaks of the field: by its path, or as a rule of the object around it."""
    field, path = field.replace("[", ".").replace("]", ""), path.replace("[", ".").replace("]", "")
    return path.startswith(field) or (field.startswith(path) and message.startswith(field.rpartition(".")[2]))


@pytest.mark.parametrize("bad", [bad for bad in BAD if not bad.local], ids=lambda bad: bad.name)
def test_what_only_a_cluster_refuses_is_valid_locally(bad: Bad) -> None:
    SPECS[bad.manifest["kind"]].model_validate(bad.manifest["spec"])

"""The table of stage kinds, and what follows from it."""

import pytest
from tests.unit.operator.objects import EXPORT, SPEC

from distillery.api import reasons
from distillery.api.inputs import ORIGIN, ROLES
from distillery.api.job import DistillationJobSpec
from distillery.api.kinds import KINDS, Kind, kind_of, stage_name
from distillery.api.scheduling import Stages
from distillery.api.stages import gates_of, planned_stages

GATE = {"metric": "exactMatch", "min": "0.5"}
JOB = DistillationJobSpec.model_validate({
    **SPEC,
    "evaluation": {"gates": [{"metric": "retention", "min": "0.5"}]},
    "exports": [EXPORT | {"name": name} for name in ("q4", "a-b")],
})  # fmt: skip


def test_each_stage_waits_for_all_of_the_kind_before() -> None:
    assert {stage.name: stage.needs for stage in planned_stages(JOB)} == {
        "preflight": (),
        "traces": ("preflight",),
        "curate": ("traces",),
        "train": ("curate",),
        "evaluate": ("train",),
        "export-q4": ("evaluate",),
        "export-a-b": ("evaluate",),
        "publish": ("export-q4", "export-a-b"),
    }


def test_stages_that_a_spec_does_not_need_are_passed_over() -> None:
    spec = DistillationJobSpec.model_validate(SPEC | {"teacher": {"traces": {"uri": "s3://a/manifest.json"}}, "data": {}})
    assert [(stage.name, stage.needs) for stage in planned_stages(spec)][1::3] == [("curate", ("preflight",)), ("publish", ("evaluate",))]


def test_the_kind_of_a_stage_follows_from_its_name() -> None:
    assert all(kind_of(stage.name) is KINDS[stage.kind] for stage in planned_stages(JOB))


@pytest.mark.parametrize("name", ["", "export", "export-", "train-1", "exports", "prune"])
def test_a_name_that_no_stage_has_is_of_no_kind(name: str) -> None:
    assert kind_of(name) is None


def test_gates_are_of_the_stages_that_measure() -> None:
    assert [stage.name for stage in planned_stages(JOB) if gates_of(JOB, stage)] == ["evaluate"]


@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
def test_a_kind_names_only_what_is_there(kind: Kind) -> None:
    """A kind that reads what comes after it, or an input or condition that nobody knows, would fail in the middle of a job."""
    names = list(KINDS)
    assert "-" not in kind.name, "the name of a stage says where its kind ends"
    assert set(kind.reads) <= set(names[: names.index(kind.name)])
    assert {*kind.sources, *kind.opens} <= {*ROLES, ORIGIN}
    assert kind.condition is None or kind.condition in reasons.CONDITIONS
    assert kind.per_export or kind.name in Stages.model_fields
    assert stage_name(kind.name, "x") == f"{kind.name}-x"


def test_percentages_of_a_job_without_exports_come_to_one_whole() -> None:
    assert sum(kind.weight for kind in KINDS.values()) == 100

"""From a spec to stages, names and problems."""

from __future__ import annotations

from dataclasses import replace

import pytest
from tests.unit.operator.objects import ENDPOINT_SPEC, EXPORT, SETTINGS, SPEC

from distillery.plan import child_name, inputs_of, make_plan

TOKENIZED = ENDPOINT_SPEC | {"teacher": {"endpoint": {"teacher": "gpt-x", "tokenizer": {"uri": "hf://org/teacher@main"}}}}
HALF = {"student": {"fromTeacher": {"numHiddenLayers": 2}}}
HASH = "0123456789abcdef" * 4


def test_stages_follow_the_spec() -> None:
    plan = make_plan("tiny", SPEC | {"exports": [EXPORT]}, SETTINGS)
    assert [stage.name for stage in plan.stages] == ["preflight", "traces", "curate", "train", "evaluate", "export-q4", "publish"]
    assert plan.problems == ()
    assert plan.config_map == f"tiny-{plan.spec_hash[:8]}"


@pytest.mark.parametrize(
    ("change", "same"),
    [
        ({"suspend": True}, True),
        ({"backoffLimit": 7}, True),
        ({"ttlSecondsAfterFinished": 1}, True),
        ({"training": {"epochs": 3}}, True),  # the default, written out
        ({"exports": []}, True),
        ({"training": {"epochs": 4}}, False),
        ({"scheduling": {"queueName": "gpus"}}, False),
    ],
)
def test_the_spec_hash_is_of_frozen_fields_that_are_not_default(change: dict[str, object], same: bool) -> None:
    assert (make_plan("tiny", SPEC | change, SETTINGS).spec_hash == make_plan("tiny", SPEC, SETTINGS).spec_hash) is same


def test_the_spec_hash_is_the_same_in_every_version() -> None:
    assert make_plan("tiny", SPEC, SETTINGS).spec_hash == "c0dcb006ca8257440c58e76b68d7e1bb0270e2f6ced301a480d81575caee3153"


@pytest.mark.parametrize(
    ("name", "change", "words"),
    [
        ("Tiny", {}, "metadata.name"),
        ("a" * 41, {}, "at most 40 characters"),
        ("tiny", {"output": {"uri": "file:///tmp/out"}}, "spec.output.uri"),
        ("tiny", {"teacher": {"model": {"uri": "file:///models/t"}}}, "spec.teacher.model.uri"),
        ("tiny", {"data": {"train": {"uri": "file:///rows.jsonl"}}}, "spec.data.train.uri"),
        ("tiny", {"student": {}}, "spec.student: needs exactly one"),
        ("tiny", {"training": {"epochs": 0}}, "spec.training.epochs"),
        ("tiny", {"unknown": 1}, "spec.unknown"),
        ("tiny", ENDPOINT_SPEC, "spec.teacher.endpoint: this installation has no gateway"),
    ],
)
def test_what_cannot_run_is_said_with_its_field(name: str, change: dict[str, object], words: str) -> None:
    plan = make_plan(name, SPEC | change, SETTINGS)
    assert any(words in problem for problem in plan.problems), plan.problems
    assert plan.stages == ()


def test_a_child_is_named_after_job_stage_hash_and_run() -> None:
    assert child_name("tiny", "train", HASH, 12) == "tiny-train-012345-12"


def test_long_names_are_shortened_and_stay_apart() -> None:
    assert len(child_name("a" * 40, f"export-{'b' * 20}", HASH, 999)) == 63
    names = {child_name("a" * 40, f"export-{'b' * 19}{last}", HASH, run) for last in "xyz" for run in (1, 999)}
    assert len(names) == 6


@pytest.mark.parametrize(
    ("change", "stage", "roles"),
    [
        ({}, "preflight", "OUTPUT TEACHER STUDENT TRAIN"),
        ({}, "traces", "OUTPUT TEACHER TRAIN"),
        ({}, "curate", "OUTPUT STUDENT"),
        ({}, "train", "OUTPUT STUDENT"),
        ({}, "evaluate", "OUTPUT STUDENT"),
        (HALF, "train", "OUTPUT TEACHER"),
        (HALF, "evaluate", "OUTPUT TEACHER"),
        (HALF, "curate", "OUTPUT"),
        (TOKENIZED, "traces", "OUTPUT TEACHER TRAIN"),
        (TOKENIZED, "train", "OUTPUT STUDENT"),
        ({}, "publish", "OUTPUT"),
        ({"teacher": {"traces": {"uri": "s3://a/stages/traces-1/manifest.json"}}, "data": {}}, "publish", "OUTPUT TEACHER"),
    ],
)
def test_a_stage_touches_only_what_it_reads(change: dict[str, object], stage: str, roles: str) -> None:
    plan = make_plan("tiny", SPEC | change, replace(SETTINGS, gateway_url="http://gateway"))
    assert plan.spec is not None, plan.problems
    planned = next(s for s in plan.stages if s.name == stage)
    assert [named.role.prefix.rstrip("_") for named in inputs_of(plan.spec, planned)] == roles.split()

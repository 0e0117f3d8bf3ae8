"""The border between those who start the process of a stage and the process: what one side writes the other understands."""

import argparse
import re
from pathlib import Path

import pytest
from tests.unit.operator.objects import EXPORT, SPEC

from distillery.api import process
from distillery.api.job import DistillationJobSpec
from distillery.api.stages import Stage, planned_stages

ROOT = Path(__file__).parents[3]
STAGES = planned_stages(DistillationJobSpec.model_validate(SPEC | {"exports": [EXPORT]}))


@pytest.mark.parametrize("stage", STAGES, ids=[stage.name for stage in STAGES])
def test_arguments_come_back_as_they_were_given(stage: Stage) -> None:
    hashes = {before.name: f"{number:064x}" for number, before in enumerate(STAGES[: STAGES.index(stage) + 1])}
    kind, *arguments = process.arguments(stage, hashes)
    parser = argparse.ArgumentParser()
    process.add_arguments(parser, kind)
    told = parser.parse_args(arguments)
    assert (kind, told.stage, told.hash) == (stage.kind, stage.name, hashes[stage.name])
    assert {**dict(told.inputs), told.stage: told.hash} == hashes


def test_only_one_module_spells_a_name_of_the_environment() -> None:
    """Another list would drift. (DISTILLERY_LEDGER is the gateway's, and no stage's.)"""
    files = [*(ROOT / "operator").rglob("*.py"), *(ROOT / "trainer_image").rglob("*.py")]
    named = {name: file.name for file in files for name in re.findall(r"DISTILLERY_(?!LEDGER)[A-Z_]+", file.read_text())}
    assert set(named.values()) == {"process.py"}, named

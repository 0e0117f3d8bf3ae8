"""Which stages of a job are done already, by this job or by another with the same output."""

from __future__ import annotations

import importlib
import logging
from collections.abc import Mapping
from dataclasses import replace

from distillery.api.kinds import KINDS
from distillery.api.result import StageResult
from distillery.api.stages import gates_of, planned_stages
from distillery_trainer.errors import StageError
from distillery_trainer.runner.commit import find
from distillery_trainer.runner.context import StageContext
from distillery_trainer.runner.execute import module_of

log = logging.getLogger(__name__)


def finished_stages(context: StageContext, hashes: Mapping[str, str]) -> list[str]:
    """Stages that need no pod: their output is there, and what is not in their hash (gates) is met by it.

    Publish, which is each job's own, always gets its pod: it finds its manifest and tells the URIs again.
    """
    found = []
    for stage in planned_stages(context.job.spec)[1:]:
        there = replace(context, stage=stage.name, kind=stage.kind, hash=hashes[stage.name], inputs=hashes)
        manifest = find(context.output, there.folder()) if not KINDS[stage.kind].owned else None
        if manifest is None:
            continue
        if not gates_of(context.job.spec, stage):
            found.append(stage.name)
            continue
        try:
            module = importlib.import_module(module_of(stage.kind, context.job.spec))
            concluded: StageResult = module.conclude(there, manifest)
        except StageError as error:
            log.info("%s is there, but is looked at again: %s", stage.name, error.message)
            continue
        if concluded.artifact is None or concluded.artifact.passed is not False:
            found.append(stage.name)
    return found

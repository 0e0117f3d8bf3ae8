"""The border of a stage: reads the frozen job, adopts or runs and commits, and ends with a result and an exit code.

A stage module has `run(context) -> Outcome`, and where something outside the hash decides the end (gates, links), also
`conclude(context, manifest) -> StageResult`, called after the commit and after an adoption alike. A module with STOPS_ITSELF = True
looks at `context.stopping` and raises Stopped when its state is safe; the others are interrupted where they are.
"""

from __future__ import annotations

import errno
import importlib
import logging
import math
import os
import signal
import threading
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType

from pydantic import ValidationError

from distillery.api import process, reasons
from distillery.api.job import DistillationJobSpec, FrozenJob
from distillery.api.kinds import KINDS, PREFLIGHT, TRACES
from distillery.api.problems import problems
from distillery.api.result import DONE, TERMINATED, USER_MISTAKE, StageResult
from distillery_trainer.errors import StageError, Stopped
from distillery_trainer.stores import open_store

from . import commit
from .context import Outcome, StageContext
from .manifest import Creator, Manifest
from .progress import Reporter, metric_values

__all__ = ["Outcome", "StageContext", "StageError", "Stopped", "execute"]
log = logging.getLogger(__name__)
INTERNAL = 1
#: The package with one module per kind of stage. They are found by name: a stage imports the runner, not the other way round.
STAGES = "distillery_trainer.stages"


def execute(kind: str, stage: str, stage_hash: str, inputs: Mapping[str, str], environment: Mapping[str, str] = os.environ) -> int:
    """Run one stage from its environment; writes the termination message and returns the exit code."""
    progress = Reporter(stage, stage_hash, environment)
    try:
        result, code = _attempted(kind, stage, stage_hash, inputs, environment, progress)
    except Stopped as stop:
        log.info("stopped: %s", stop)
        result, code = StageResult(reason=reasons.TERMINATED, message=str(stop)[:1024]), TERMINATED
    # From here on only the result is told: nothing is left to stop.
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    progress.close()
    _tell(result, Path(environment.get(process.RESULT, process.TERMINATION_LOG)))
    return code


def _attempted(
    kind: str, stage: str, stage_hash: str, inputs: Mapping[str, str], environment: Mapping[str, str], progress: Reporter
) -> tuple[StageResult, int]:
    """The result and exit code of a stage that was not stopped."""
    work, stopping = Path(environment.get(process.WORK, process.WORK_FOLDER)), threading.Event()
    try:
        job = _load_job(Path(environment.get(process.JOB, f"{process.JOB_FOLDER}/{process.JOB_FILE}")))
        output = open_store(job.spec.output.uri, "output", environment)
        module = _module(module_of(kind, job.spec), stopping)
        return _perform(StageContext(job, stage, kind, stage_hash, inputs, output, work, progress, stopping, environment), module), DONE
    except StageError as error:
        log.error("%s: %s", error.reason, error.message)
        base = error.result or StageResult()
        return base.model_copy(update={"reason": error.reason, "message": error.message[:1024]}), error.code
    except Exception as error:
        log.exception("stage %s failed", stage)
        return _diagnosed(error, stage, work)


def module_of(kind: str, spec: DistillationJobSpec) -> str:
    """The module that runs a kind of stage. A teacher behind an API is asked by many small pods, which load no model."""
    if kind == TRACES and spec.teacher.endpoint is not None:
        return f"{STAGES}.traces_endpoint"
    return f"{STAGES}.{kind}"


def _module(name: str, stopping: threading.Event) -> ModuleType:
    """Import a stage's module with SIGTERM already caught: the imports take seconds."""
    stops_itself = False

    def stop(number: int, frame: object) -> None:
        already = stopping.is_set()
        stopping.set()
        if not stops_itself and not already:
            raise Stopped("SIGTERM; the stage starts again from its last safe state")

    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, stop)
    module = importlib.import_module(name)
    stops_itself = getattr(module, "STOPS_ITSELF", False)
    return module


def _load_job(path: Path) -> FrozenJob:
    try:
        return FrozenJob.model_validate_json(path.read_bytes())
    except OSError as error:
        raise StageError(reasons.BAD_INPUT, f"{path}: the frozen job cannot be read: {error.strerror}") from error
    except ValidationError as error:
        raise StageError(reasons.INVALID_SPEC, f"{path}: {problems(error)[0]}") from error


def _perform(context: StageContext, module: ModuleType) -> StageResult:
    context.work.mkdir(parents=True, exist_ok=True)
    manifest = None if context.kind == PREFLIGHT else commit.find(context.output, context.folder())
    adopted = manifest is not None
    if manifest is None:
        outcome: Outcome = module.run(context)
        said = outcome.result if outcome.result.metrics else _with_metrics(outcome)
        if outcome.files is None:
            return said
        draft = Manifest(
            stage=context.stage,
            hash=context.hash,
            format=KINDS[context.kind].format,
            root="",
            files=(),
            counts=outcome.counts,
            # JSON has no NaN and no infinity; the result still tells them.
            metrics={name: value for name, value in outcome.metrics.items() if math.isfinite(value)},
            lineage=outcome.lineage,
            created_by=Creator(namespace=context.job.namespace, job=context.job.name, uid=context.job.uid),
            result=said,
        )
        manifest, adopted = commit.commit(context.output, context.folder(), outcome.files, draft)
        commit.clear(context.output, context.work_folder)
    result: StageResult = module.conclude(context, manifest) if hasattr(module, "conclude") else manifest.result
    return result.model_copy(update={"adopted": adopted, "manifest": context.output.uri(f"{context.folder()}/manifest.json")})


def _with_metrics(outcome: Outcome) -> StageResult:
    """The result with the outcome's metrics in it."""
    return outcome.result.model_copy(update={"metrics": metric_values(outcome.metrics, 32)})


def _diagnosed(error: Exception, stage: str, work: Path) -> tuple[StageResult, int]:
    """What a library's exception means to the user, where that is known; else a bug, told as one."""
    text = f"{type(error).__name__}: {error}".strip()
    full = isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)
    if full or "No space left on device" in text or "os error 28" in text:
        where = getattr(error, "filename", None) or work
        message = f"no space left at {where}: raise limits.ephemeral-storage of stage {stage!r}, or give its node a larger disk"
        return StageResult(reason=reasons.DISK_FULL, message=message), USER_MISTAKE
    if isinstance(error, MemoryError) or "OutOfMemoryError" in text or "can't allocate memory" in text:
        message = (
            f"stage {stage!r} ran out of memory: lower training.microBatchSize, training.maxSequenceLength or"
            f" evaluation.generation.batchSize, or raise its limits ({text[:300]})"
        )
        return StageResult(reason=reasons.OUT_OF_MEMORY, message=message), USER_MISTAKE
    message = f"{text[:800]} (a fault of the program: the traceback is in the pod's log)"
    return StageResult(reason=reasons.INTERNAL_ERROR, message=message), INTERNAL


def _tell(result: StageResult, path: Path) -> None:
    log.info("%s", result.message or result.reason or "done")
    try:
        path.write_bytes(result.trimmed())
    except OSError as error:
        log.warning("the result could not be written to %s: %s", path, error.strerror)

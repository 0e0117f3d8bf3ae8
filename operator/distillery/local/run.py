"""Runs the stages of a job one after the other, as the operator would: a process each, results by their termination message."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from pydantic import ValidationError

from distillery.api import process
from distillery.api.digest import digest
from distillery.api.job import FrozenJob
from distillery.api.kinds import PREFLIGHT
from distillery.api.reasons import INTERNAL_ERROR
from distillery.api.result import DONE, Progress, StageResult, parse_result
from distillery.api.stages import Stage, planned_stages
from distillery.api.status import DistillationJobStatus, JobProgress, StageProgress, StageStatus
from distillery.decide.published import published

Show = Callable[[DistillationJobStatus], None]
POLL_SECONDS = 0.5


class StageFailed(Exception):
    """A stage ended with another exit code than 0; carries its code and result."""

    def __init__(self, stage: str, code: int, result: StageResult, log: Path) -> None:
        """Keep what the stage said, and where its log is."""
        super().__init__(f"stage {stage} failed ({result.reason or code}): {result.message} [log: {log}]")
        self.code, self.result = code, result


def run_job(job: FrozenJob, work: Path, show: Show) -> DistillationJobStatus:
    """Run every stage that is not reused; StageFailed at the first that fails. `show` is called whenever something moved."""
    work.mkdir(parents=True, exist_ok=True)
    (work / "job.json").write_text(job.model_dump_json(by_alias=True, exclude_none=True))
    status = DistillationJobStatus(phase="Running", stages=[StageStatus(name=s.name) for s in planned_stages(job.spec)])
    hashes = {PREFLIGHT: digest(job.spec.wire())}
    reused: set[str] = set()
    for stage in planned_stages(job.spec):
        if stage.name in reused:
            status = _with_stage(status, stage.name, state="Reused", hash=hashes[stage.name])
            continue
        before = time.monotonic()
        for progress in _run_stage(job, stage, hashes, work):
            status = _with_stage(status, stage.name, state="Running", runs=1, **_progress(progress))
            show(status)
        result = _result(work, stage).named([later.name for later in planned_stages(job.spec)[1:]])
        hashes.update(result.hashes or {})
        reused.update(result.reused or [])
        took = f"{time.monotonic() - before:.0f} s"
        ended = {"hash": hashes[stage.name], "metrics": result.metrics, "message": f"{took}. {result.message}"}
        status = _with_stage(status, stage.name, state="Succeeded", progress=StageProgress(percentage=100), **ended)
        status = published(status, result)
        show(status)
    status = status.model_copy(update={"phase": "Succeeded", "progress": JobProgress(percentage=100)})
    show(status)
    return status


def _run_stage(job: FrozenJob, stage: Stage, hashes: dict[str, str], work: Path) -> Iterator[Progress | None]:
    """Start the stage's process and yield its progress until it ends; StageFailed unless it exits 0."""
    folder = work / stage.name
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "result.json").unlink(missing_ok=True)
    (folder / "progress.json").unlink(missing_ok=True)
    command = [sys.executable, "-m", "distillery.local", *process.arguments(stage, hashes)]
    environment = os.environ | {
        process.JOB: str(work / "job.json"),
        process.WORK: str(folder / "scratch"),
        process.RESULT: str(folder / "result.json"),
        process.PROGRESS_FILE: str(folder / "progress.json"),
    }
    with (
        (folder / "log.txt").open("wb") as log,
        _terminated_with_us(subprocess.Popen(command, env=environment, stdout=log, stderr=log)) as child,
    ):
        yield None
        while True:
            try:
                code = child.wait(POLL_SECONDS)
                break
            except subprocess.TimeoutExpired:
                yield _read_progress(folder / "progress.json")
    if code != DONE:
        raise StageFailed(stage.name, code, _result(work, stage), folder / "log.txt")


@contextmanager
def _terminated_with_us(child: subprocess.Popen[bytes]) -> Iterator[subprocess.Popen[bytes]]:
    """On an interrupt the stage gets SIGTERM, and time to write its checkpoint."""
    try:
        yield child
    finally:
        if child.poll() is None:
            child.send_signal(signal.SIGTERM)
            child.wait()


def _read_progress(path: Path) -> Progress | None:
    try:
        return Progress.model_validate_json(path.read_bytes())
    except (FileNotFoundError, ValidationError):
        return None  # not written yet


def _result(work: Path, stage: Stage) -> StageResult:
    path = work / stage.name / "result.json"
    text = path.read_text() if path.exists() else ""
    return parse_result(text) or StageResult(reason=INTERNAL_ERROR, message=text[-500:] or "the stage ended without a word; see its log")


def _progress(progress: Progress | None) -> dict[str, object]:
    if progress is None:
        return {}
    known = progress.model_dump(include={"percentage", "estimated_remaining_seconds", "done", "total", "unit", "checkpoint_step"})
    return {"progress": StageProgress(**known), "metrics": progress.metrics, "message": progress.message}


def _with_stage(status: DistillationJobStatus, name: str, **change: object) -> DistillationJobStatus:
    stages = [s.model_copy(update=change) if s.name == name else s for s in status.stages]
    done = sum(100 if s.state in ("Succeeded", "Reused") else (s.progress.percentage if s.progress else 0) for s in stages)
    return status.model_copy(update={"stages": stages, "progress": JobProgress(percentage=done // len(stages))})

"""What a stage may touch, and what it hands back."""

from __future__ import annotations

import os
import shutil
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from distillery.api.job import FrozenJob
from distillery.api.kinds import TRACES
from distillery.api.result import StageResult
from distillery_trainer.stores import Source, Store, open_source

from . import commit
from .manifest import Manifest
from .progress import Reporter


@dataclass(frozen=True)
class StageContext:
    """Everything that a stage may touch."""

    job: FrozenJob
    stage: str
    kind: str
    hash: str
    inputs: Mapping[str, str]
    output: Store
    work: Path
    progress: Reporter
    stopping: threading.Event
    environment: Mapping[str, str] = field(default_factory=lambda: os.environ)

    def folder(self, stage: str | None = None) -> str:
        """Path in the output store of this stage's folder, or of an earlier one's."""
        name = stage or self.stage
        return f"stages/{name}-{self.hash if name == self.stage else self.inputs[name]}"

    @property
    def work_folder(self) -> str:
        """Path in the output store for what outlives a pod but is no result: checkpoints, shards done so far. Deleted after the commit."""
        return f"{self.folder()}/work/{self.job.uid}"

    def source(self, stage: str) -> tuple[Source, str]:
        """The store and the folder in it of an earlier stage; traces that the spec names may lie in another store."""
        given = self.job.spec.teacher.traces
        if stage == TRACES and given is not None:
            return open_source(given.uri.removesuffix("/manifest.json"), "traces"), ""
        return self.output, self.folder(stage)

    def manifest(self, stage: str) -> Manifest:
        """The manifest of an earlier stage. Missing if it is not there (any more)."""
        return commit.read_manifest(*self.source(stage))

    def fetch(self, stage: str, *names: str) -> Path:
        """A local folder with the files of an earlier stage that match `names` (shell patterns; all without any), each verified."""
        source, folder = self.source(stage)
        manifest = commit.read_manifest(source, folder)
        return commit.fetch(source, folder, manifest, self.work / "inputs" / f"{stage}-{manifest.root}", *names)

    def new_folder(self, name: str) -> Path:
        """An empty folder in the scratch space, whatever an earlier run left there."""
        folder = self.work / name
        if folder.exists():
            shutil.rmtree(folder)
        folder.mkdir(parents=True)
        return folder


@dataclass
class Outcome:
    """What a stage made: a local folder to commit (None: nothing, as in preflight) and what to say about it."""

    files: Path | None
    result: StageResult
    lineage: dict[str, Any] = field(default_factory=dict)
    metrics: dict[str, float] = field(default_factory=dict)
    counts: dict[str, int] = field(default_factory=dict)

"""The commit record of a stage: written last, and only where none is. What it lists is there, and what it says was measured."""

from __future__ import annotations

from fnmatch import fnmatchcase
from typing import Any, Literal

from pydantic import Field

from distillery.api.base import Model
from distillery.api.result import StageResult
from distillery_trainer.stores import Name

NAME = "manifest.json"


class File(Model):
    """A file of the stage, its path relative to the manifest's root."""

    path: Name
    sha256: str
    size_bytes: int


class Creator(Model):
    """The job whose pod made it."""

    namespace: str
    job: str
    uid: str


class Manifest(Model):
    """What a stage made. `root` is the folder, beside the manifest, that its files lie in."""

    stage: str
    hash: str
    format: int
    root: Literal[""] | Name
    files: tuple[File, ...]
    counts: dict[str, int] = Field(default_factory=dict)
    metrics: dict[str, float] = Field(default_factory=dict)
    lineage: dict[str, Any] = Field(default_factory=dict)
    created_by: Creator
    result: StageResult

    def select(self, *patterns: str) -> tuple[File, ...]:
        """Files whose path matches one of the shell patterns (`*` matches slashes too); all without a pattern."""
        return tuple(f for f in self.files if not patterns or any(fnmatchcase(f.path, p) for p in patterns))

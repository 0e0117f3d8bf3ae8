"""Where bytes come from and go to. Paths are relative to the URI that a store was opened with, with forward slashes.

Every failure is a StageError: 64 with the field and the remedy where the user is at fault, 75 where trying again may help.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, Protocol

from distillery.api import reasons
from distillery.api.inputs import ROLES
from distillery_trainer.errors import StageError

from .names import Name, fault_of, refused, safe_join

__all__ = ["Entry", "Location", "Name", "Source", "Store", "local_files", "open_source", "open_store", "safe_join"]


class Entry(NamedTuple):
    """A file of a store; `tag` changes with its content ("" where the store keeps none)."""

    path: str
    size: int
    tag: str


class Source(Protocol):
    """What can be read: an input of the job, or a stage's folder."""

    def uri(self, path: str = "") -> str:
        """The full URI of a path."""

    def read(self, path: str) -> bytes:
        """The bytes of a small file. Missing if it is not there."""

    def exists(self, path: str) -> bool:
        """Whether a file is there."""

    def list(self, prefix: str = "") -> list[Entry]:
        """All files under a folder, or the one file of that name, sorted by path."""

    def get(self, path: str, target: Path) -> None:
        """Make the file readable at `target` (a copy, or a link where the store is a folder); parents are created."""

    def download(self, prefix: str, folder: Path) -> Sequence[str]:
        """`get` for every file under `prefix`, at its path relative to `prefix`; the relative paths."""


class Store(Source, Protocol):
    """What can be written as well."""

    def write(self, path: str, data: bytes) -> None:
        """Write or replace a small file, atomically."""

    def create(self, path: str, data: bytes) -> bool:
        """Write only if nothing is there, atomically; False if something was."""

    def put(self, source: Path, path: str) -> None:
        """Write or replace a file from a local one, atomically."""

    def upload(self, folder: Path, prefix: str) -> None:
        """`put` for every file in a local folder."""

    def delete(self, prefix: str) -> None:
        """Remove a file, or all files under a folder; no error if there is none."""


@dataclass(frozen=True)
class Location:
    """A URI of the spec, the field it stands in, and the environment that its credentials come from."""

    uri: str
    role: str
    environment: Mapping[str, str]

    @property
    def field(self) -> str:
        """The field that holds the URI."""
        return f"{ROLES[self.role].field}.uri"

    @property
    def secret(self) -> str:
        """The remedy for wrong credentials."""
        owner = ROLES[self.role].field
        if any(name.startswith(ROLES[self.role].prefix) for name in self.environment):
            return f"check the keys in the Secret that {owner}.credentialsSecretRef names"
        return f"{owner}.credentialsSecretRef gave no key, so the pod's own identity was used: name a Secret, or let the ServiceAccount in"

    def variable(self, name: str) -> str | None:
        """A credential: the one of this role, else None (the client's own defaults apply)."""
        return self.environment.get(ROLES[self.role].prefix + name)

    def error(self, reason: str, text: str) -> StageError:
        """A user's mistake about this URI."""
        return StageError(reason, f"{self.field} {self.uri!r}: {text}")

    def inside(self, path: str) -> str:
        """A path of the store, or "" for the place of the URI itself. StageError where it would leave that place, or is no name at all."""
        if path and (fault := fault_of(path)):
            raise refused(path, fault, f"{self.field} {self.uri!r}: ")
        return path


def open_source(uri: str, role: str, environment: Mapping[str, str] | None = None) -> Source:
    """The store behind a URI, for reading. `role` (of `api.inputs`) picks credentials and names the field in errors."""
    location = Location(uri.rstrip("/"), role, os.environ if environment is None else environment)
    if uri.startswith("hf://"):
        from .hub import HubSource

        return HubSource(location)
    return open_store(uri, role, environment)


def open_store(uri: str, role: str, environment: Mapping[str, str] | None = None) -> Store:
    """The store behind an s3://, pvc:// or file:// URI."""
    location = Location(uri.rstrip("/"), role, os.environ if environment is None else environment)
    scheme = uri.split("://", 1)[0]
    if scheme == "s3":
        from .s3 import S3Store

        return S3Store(location)
    if scheme in ("pvc", "file"):
        from .folder import FolderStore

        return FolderStore(location)
    raise location.error(reasons.UNSUPPORTED, "cannot be written to: use s3://, pvc:// or (in a local run) file://")


def local_files(folder: Path) -> Sequence[tuple[Path, str]]:
    """Every file under a local folder with its relative path, sorted."""
    files = [(file, file.relative_to(folder).as_posix()) for file in folder.rglob("*") if file.is_file()]
    return sorted(files, key=lambda pair: pair[1])

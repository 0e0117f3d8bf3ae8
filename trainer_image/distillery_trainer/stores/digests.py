"""The sha256 of each input that a job names: with it, a stage is known by what it is made of and not by where that lay."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path

from distillery.api import reasons
from distillery.api.digest import digest
from distillery.api.inputs import OUTPUT, ROLES, inputs
from distillery.api.job import DistillationJobSpec
from distillery_trainer.errors import StageError

from . import open_source, safe_join

#: A model card or a licence text beside the weights does not change what a model computes.
_IGNORED = (".gitattributes", "README.md", "LICENSE")


def input_uris(spec: DistillationJobSpec) -> dict[str, str]:
    """The URI of each input, by role; a teacher behind an API has none."""
    return {named.role.name: named.uri for named in inputs(spec) if named.role.name != OUTPUT}


def digest_input(uri: str, role: str, work: Path, environment: Mapping[str, str] | None = None) -> str:
    """sha256 over the list of (path, size, content tag) of an input's files.

    The tag is the ETag of an S3 object, git's or LFS's digest in a hub repository (at the commit that the revision stands for), and the
    sha256 of the content on a volume, which keeps no tag of its own. StageError NotFound where nothing is there.
    """
    source = open_source(uri, role, environment)
    entries = [entry for entry in source.list() if entry.path not in _IGNORED]
    if not entries:
        raise StageError(reasons.NOT_FOUND, f"{ROLES[role].field}.uri {uri!r}: there is nothing at this path; check it")
    tags = []
    for entry in entries:
        tag = entry.tag
        if not tag:
            place = safe_join(work / "digest" / role, entry.path or "file")
            source.get(entry.path, place)
            tag = sha256_of(place)
        tags.append([entry.path, entry.size, tag])
    return digest(tags)


def sha256_of(path: Path) -> str:
    """sha256 (hex) of a file's content."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()

"""Commit and adopt: how a stage's output appears at once, and only once, in a store that several writers share.

Each writer uploads into a folder of its own and then tries to create the one manifest. So the loser of a race cannot touch a byte of
what the winner's manifest lists.
"""

from __future__ import annotations

import logging
import uuid
from pathlib import Path

from pydantic import ValidationError

from distillery.api import reasons
from distillery.api.problems import problems
from distillery_trainer.errors import Missing, StageError
from distillery_trainer.stores import Source, Store, local_files, safe_join
from distillery_trainer.stores.digests import sha256_of

from .manifest import NAME, File, Manifest

log = logging.getLogger(__name__)


def join(*parts: str) -> str:
    """A path of a store from its non-empty parts."""
    return "/".join(part for part in parts if part)


def read_manifest(source: Source, folder: str) -> Manifest:
    """The manifest in a stage's folder. Missing if there is none; StageError if it is not one."""
    path = join(folder, NAME)
    try:
        return Manifest.model_validate_json(source.read(path))
    except ValidationError as error:
        text = f"{source.uri(path)} is not the manifest of a stage ({problems(error)[0]}): name one, or delete it"
        raise StageError(reasons.BAD_INPUT, text) from error


def find(source: Source, folder: str) -> Manifest | None:
    """The manifest of a finished stage, if all its files are there in full size; contents are checked when they are fetched."""
    try:
        manifest = read_manifest(source, folder)
    except Missing:
        return None
    root = join(folder, manifest.root)
    sizes = {entry.path: entry.size for entry in source.list(root)}
    broken = [f.path for f in manifest.files if sizes.get(join(root, f.path)) != f.size_bytes]
    if broken:
        log.warning("%s lists %d files that are gone or cut, first %s: it does not count", source.uri(folder), len(broken), broken[0])
        return None
    return manifest


def commit(store: Store, folder: str, files: Path, draft: Manifest) -> tuple[Manifest, bool]:
    """Upload `files`, then create the manifest from `draft` (whose root and files are filled in here).

    Returns the manifest that stands afterwards, and whether it is another writer's.
    """
    root = uuid.uuid4().hex[:12]
    listed = tuple(File(path=name, sha256=sha256_of(file), size_bytes=file.stat().st_size) for file, name in local_files(files))
    manifest = draft.model_copy(update={"root": root, "files": listed})
    data = manifest.model_dump_json(by_alias=True, exclude_none=True, indent=1).encode()
    store.upload(files, join(folder, root))
    path = join(folder, NAME)
    if store.create(path, data):
        log.info("committed %s: %d files, %.1f MB", store.uri(path), len(listed), sum(f.size_bytes for f in listed) / 1e6)
        return manifest, False
    winner = find(store, folder)
    if winner is None:
        # What stood there lists files that are gone (a lifecycle rule, a deletion by hand): replace it.
        store.write(path, data)
        return manifest, False
    if winner.root == root:
        # Our own create went through, but its answer was lost and the client sent it again.
        return manifest, False
    log.info("%s was committed by job %s/%s meanwhile: adopted", store.uri(path), winner.created_by.namespace, winner.created_by.job)
    clear(store, join(folder, root))
    return winner, True


def clear(store: Store, folder: str) -> None:
    """Remove what is not needed any more. Credentials that may not delete are no reason to fail: a lifecycle rule cleans up."""
    try:
        store.delete(folder)
    except StageError as error:
        log.warning("%s stays: %s", store.uri(folder), error.message)


def fetch(source: Source, folder: str, manifest: Manifest, target: Path, *patterns: str) -> Path:
    """Bring files of a finished stage to a local folder and check each one's sha256; those already there are kept."""
    for file in manifest.select(*patterns):
        place = safe_join(target, file.path)
        if place.exists():
            continue
        partial = place.with_name(place.name + ".part")
        source.get(join(folder, manifest.root, file.path), partial)
        if sha256_of(partial) != file.sha256:
            raise StageError(
                reasons.BAD_INPUT,
                f"{source.uri(join(folder, manifest.root, file.path))} is damaged: its sha256 is not {file.sha256}, as {NAME} says;"
                f" delete {source.uri(join(folder, NAME))} to have the stage run again",
            )
        partial.rename(place)
    return target

"""A folder as a store: a mounted volume (pvc://) or, in a local run, any folder (file://)."""

from __future__ import annotations

import errno
import os
import shutil
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from distillery.api import process, reasons
from distillery_trainer.errors import Missing, StageError

from . import Entry, Location, local_files, safe_join

_FULL = (errno.ENOSPC, errno.EDQUOT)
_DENIED = (errno.EACCES, errno.EPERM, errno.EROFS)


class FolderStore:
    """Files are written beside their place and moved in (replace) or linked in (create)."""

    def __init__(self, location: Location) -> None:
        self._location = location
        scheme, rest = location.uri.split("://", 1)
        self._border: Path | None = None
        if ".." in rest.split("/"):
            raise location.error(reasons.BAD_INPUT, "must not contain '..': write the path out")
        if scheme == "file":
            if not rest.startswith("/"):
                raise location.error(reasons.BAD_INPUT, "needs an absolute path: file:///folder")
            # in a local run any link may be followed: they are the person's own (the cache of Hugging Face is made of them)
            self.root = Path(rest)
        else:
            volumes = Path(location.environment.get(process.VOLUMES, process.VOLUMES_FOLDER))
            self.root, volume = volumes / rest, volumes / rest.split("/")[0]
            self._border = volume
            if not volume.is_dir():
                raise location.error(reasons.NOT_FOUND, f"the claim is not mounted at {volume}: create the PersistentVolumeClaim")

    def uri(self, path: str = "") -> str:
        """The full URI of a path."""
        return f"{self._location.uri}/{path}" if path else self._location.uri

    def path(self, path: str = "") -> Path:
        """Where it lies on this machine; on a volume, links that lead out of it are refused: a pod has files of its own."""
        place = self.root / self._location.inside(path)
        if self._border is not None and not place.resolve().is_relative_to(self._border.resolve()):
            raise self._location.error(reasons.BAD_INPUT, f"{path or '.'} is a link that leads out of the volume: put the file there")
        return place

    def read(self, path: str) -> bytes:
        """The bytes of a file."""
        with self._explained(path):
            return self.path(path).read_bytes()

    def exists(self, path: str) -> bool:
        """Whether a file is there."""
        with self._explained(path):
            return self.path(path).is_file()

    def list(self, prefix: str = "") -> list[Entry]:
        """All files under a folder, or the one file of that name. The tag is empty: contents must be read to compare them."""
        with self._explained(prefix):
            place = self.path(prefix)
            if place.is_file():
                return [Entry(prefix, place.stat().st_size, "")]
            lead = f"{prefix}/" if prefix else ""
            return [Entry(self._location.inside(lead + name), file.stat().st_size, "") for file, name in local_files(place)]

    def get(self, path: str, target: Path) -> None:
        """A link: nothing is copied, and files of a store are never changed in place."""
        with self._explained(path):
            if not self.path(path).is_file():
                raise FileNotFoundError(errno.ENOENT, "no such file", str(self.path(path)))
            target.parent.mkdir(parents=True, exist_ok=True)
            target.unlink(missing_ok=True)
            target.symlink_to(self.path(path).resolve())

    def download(self, prefix: str, folder: Path) -> Sequence[str]:
        """Link every file under a folder."""
        entries = self.list(prefix)
        names = [entry.path[len(prefix) :].lstrip("/") or self.path(prefix).name for entry in entries]
        for entry, name in zip(entries, names, strict=True):
            self.get(entry.path, safe_join(folder, name))
        return names

    def write(self, path: str, data: bytes) -> None:
        """Write or replace a file."""
        with self._explained(path), self._beside(path) as temporary:
            temporary.write_bytes(data)
            _sync(temporary)
            temporary.replace(self.path(path))
            _sync(self.path(path).parent)

    def create(self, path: str, data: bytes) -> bool:
        """link(2) refuses to replace, and the file is complete before it has its name."""
        with self._explained(path), self._beside(path) as temporary:
            temporary.write_bytes(data)
            _sync(temporary)
            try:
                os.link(temporary, self.path(path))
            except FileExistsError:
                return False
            except OSError as error:
                if error.errno in (errno.EPERM, errno.ENOTSUP, errno.ENOSYS):
                    text = "this volume cannot make hard links, which commits rest on: use a POSIX file system (ext4, xfs, NFS) or s3://"
                    raise self._location.error(reasons.UNSUPPORTED, text) from error
                raise
            _sync(self.path(path).parent)
            return True

    def put(self, source: Path, path: str) -> None:
        """Copy a local file in."""
        with self._explained(path), self._beside(path) as temporary:
            shutil.copyfile(source, temporary)
            _sync(temporary)
            temporary.replace(self.path(path))

    def upload(self, folder: Path, prefix: str) -> None:
        """Copy a local folder in."""
        for file, name in local_files(folder):
            self.put(file, f"{prefix}/{name}")

    def delete(self, prefix: str) -> None:
        """Remove a file or a folder."""
        with self._explained(prefix):
            place = self.path(prefix)
            if place.is_dir():
                shutil.rmtree(place)
            else:
                place.unlink(missing_ok=True)

    @contextmanager
    def _beside(self, path: str) -> Iterator[Path]:
        place = self.path(path)
        place.parent.mkdir(parents=True, exist_ok=True)
        temporary = place.with_name(f".{place.name}.{uuid.uuid4().hex[:12]}")
        try:
            yield temporary
        finally:
            temporary.unlink(missing_ok=True)

    @contextmanager
    def _explained(self, path: str) -> Iterator[None]:
        try:
            yield
        except (FileNotFoundError, NotADirectoryError, IsADirectoryError) as error:
            raise Missing(f"{self._location.field}: no file {self.uri(path)}; check the path") from error
        except OSError as error:
            raise self._classified(error, path) from error

    def _classified(self, error: OSError, path: str) -> StageError | OSError:
        if error.errno in _FULL:
            return self._location.error(reasons.DISK_FULL, f"no space left while writing {path}: enlarge the volume or delete old stages")
        if error.errno in _DENIED:
            remedy = "let the pod's user read and write there (fsGroup of the volume, or ownership of the folder)"
            return self._location.error(reasons.ACCESS_DENIED, f"{error.strerror} at {path or '.'}: {remedy}")
        return error


def _sync(path: Path) -> None:
    """Have the disk hold a file's or folder's present state before the next step relies on it."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)

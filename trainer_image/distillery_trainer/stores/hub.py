"""The Hugging Face hub (or any server that speaks its protocol, by HF_ENDPOINT), for reading models and data sets."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any

from httpx2 import HTTPError
from huggingface_hub import HfApi, hf_hub_download
from huggingface_hub.errors import (
    EntryNotFoundError,
    GatedRepoError,
    HfHubHTTPError,
    HFValidationError,
    LocalEntryNotFoundError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

from distillery.api import process, reasons
from distillery.api.inputs import ROLES
from distillery_trainer.errors import Missing, StageError, unavailable

from . import Entry, Location, safe_join

_COMMIT = re.compile(r"[0-9a-f]{7,64}")


class HubSource:
    """A repository at one commit: the revision is resolved once, so that a branch that moves meanwhile is not mixed."""

    def __init__(self, location: Location) -> None:
        self._location = location
        self._type = "dataset" if ROLES[location.role].dataset else "model"
        organisation, _, rest = location.uri.removeprefix("hf://").partition("/")
        # A model's revision may hold slashes (refs/pr/1); of a data set, what follows the first slash is a path.
        rest, _, self._folder = rest.partition("/") if self._type == "dataset" else (rest, "", "")
        name, _, self._revision = rest.partition("@")
        self._repository = f"{organisation}/{name}"
        self._endpoint = location.variable("HF_ENDPOINT") or location.environment.get("HF_ENDPOINT")
        # False, and not None: else the client looks for a token that somebody left on this machine.
        self._token = location.variable("HF_TOKEN") or location.environment.get("HF_TOKEN") or False
        self._api = HfApi(endpoint=self._endpoint, token=self._token)
        self._cache = Path(location.environment.get(process.WORK, process.WORK_FOLDER)) / "hub"

    @cached_property
    def _info(self) -> Any:
        with self._explained():
            return self._api.repo_info(
                self._repository, revision=self._revision or None, repo_type=self._type, files_metadata=True, timeout=30
            )

    @property
    def commit(self) -> str:
        """The commit that the revision stands for."""
        sha = str(self._info.sha)
        if not _COMMIT.fullmatch(sha):
            raise self._location.error(reasons.UNSUPPORTED, f"the server calls its commit {sha[:80]!r}, no digest: check HF_ENDPOINT")
        return sha

    def uri(self, path: str = "") -> str:
        """The full URI of a path."""
        return f"{self._location.uri}/{path}" if path else self._location.uri

    def read(self, path: str) -> bytes:
        """The bytes of a file."""
        return self._cached(path).read_bytes()

    def exists(self, path: str) -> bool:
        """Whether the repository holds the file."""
        return any(entry.path == path for entry in self.list())

    def list(self, prefix: str = "") -> list[Entry]:
        """All files under a folder, or the one file of that name; the tag is git's or LFS's digest of the content."""
        whole, entries = self._name(prefix), []
        for file in self._info.siblings:
            if not whole or file.rfilename == whole or file.rfilename.startswith(f"{whole}/"):
                path = self._location.inside(file.rfilename[len(self._folder) + 1 :] if self._folder else file.rfilename)
                entries.append(Entry(path, file.size or 0, file.lfs.sha256 if file.lfs else file.blob_id or ""))
        return sorted(entries)

    def get(self, path: str, target: Path) -> None:
        """Download a file, and link it."""
        target.parent.mkdir(parents=True, exist_ok=True)
        target.unlink(missing_ok=True)
        target.symlink_to(self._cached(path).resolve())

    def download(self, prefix: str, folder: Path) -> Sequence[str]:
        """Download every file under a folder."""
        entries = self.list(prefix)
        names = [entry.path[len(prefix) :].lstrip("/") or Path(self._name(entry.path)).name for entry in entries]
        for entry, name in zip(entries, names, strict=True):
            self.get(entry.path, safe_join(folder, name))
        return names

    def _name(self, path: str) -> str:
        return "/".join(part for part in (self._folder, self._location.inside(path)) if part)

    def _cached(self, path: str) -> Path:
        with self._explained(path):
            return Path(
                hf_hub_download(
                    self._repository,
                    self._name(path),
                    repo_type=self._type,
                    revision=self.commit,
                    # by its own name: in the cache, a file is named as the server's headers say
                    local_dir=self._cache / self._type / self._repository / self.commit,
                    endpoint=self._endpoint,
                    token=self._token,
                    etag_timeout=30,
                )
            )

    @contextmanager
    def _explained(self, path: str = "") -> Iterator[None]:
        try:
            yield
        except (HfHubHTTPError, EntryNotFoundError, HFValidationError, OfflineModeIsEnabled, HTTPError) as error:
            raise self._classified(error, path) from error

    def _classified(self, error: Exception, path: str) -> StageError:
        place, server = self._location, self._endpoint or "the Hugging Face hub"
        status = error.response.status_code if isinstance(error, HfHubHTTPError) else 0
        if isinstance(error, GatedRepoError) or (status in (401, 403) and not isinstance(error, RepositoryNotFoundError)):
            return place.error(reasons.ACCESS_DENIED, f"{server} refuses access ({status}): {place.secret} (HF_TOKEN)")
        if isinstance(error, RevisionNotFoundError):
            return place.error(
                reasons.NOT_FOUND, f"{server} has no revision {self._revision!r} of {self._repository}: correct what follows '@'"
            )
        if isinstance(error, RepositoryNotFoundError):
            text = f"{server} shows no {self._type} {self._repository}: correct the name, or if it is private, {place.secret} (HF_TOKEN)"
            return place.error(reasons.NOT_FOUND, text)
        if isinstance(error, LocalEntryNotFoundError | OfflineModeIsEnabled):
            # What the client says when it has neither an answer nor a cached file.
            return unavailable(f"{place.field}: {server} does not answer for {self._repository} ({error}); trying again later")
        if isinstance(error, EntryNotFoundError):
            return Missing(f"{place.field}: {self._repository} has no file {path!r}; check the path")
        if isinstance(error, HFValidationError):
            return place.error(reasons.BAD_INPUT, f"is no repository: {error}")
        if status == 429 or status >= 500 or status == 0:
            return unavailable(f"{place.field}: {server} answers {status or error}; trying again later")
        return place.error(reasons.BAD_INPUT, f"{server} refuses {self._repository} ({error})")

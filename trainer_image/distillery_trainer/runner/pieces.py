"""Parts of a long stage that outlive its pod: kept in the store, and found again by the next run of the same plan."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from distillery.api.digest import digest
from distillery_trainer.stores import Store, safe_join


class Pieces:
    """Finished parts of one plan. `plan` is all that decides how work is cut into parts, so that parts of another cut are not mixed in."""

    def __init__(self, store: Store, folder: str, plan: Any, wanted: bool = True) -> None:
        self._store, self._folder, self._wanted = store, f"{folder}/{digest(plan)[:16]}", wanted
        self._there = {entry.path for entry in store.list(self._folder)} if wanted else set()

    def restore(self, names: Sequence[str], folder: Path) -> bool:
        """Bring the files of a part back; False if one of them is not there. The last name is the one written last."""
        if not all(f"{self._folder}/{name}" in self._there for name in names):
            return False
        for name in names:
            self._store.get(f"{self._folder}/{name}", safe_join(folder, name))
        return True

    def keep(self, names: Sequence[str], folder: Path) -> None:
        """Put the files of a part in the store, in this order."""
        if self._wanted:
            for name in names:
                self._store.put(folder / name, f"{self._folder}/{name}")

"""The manifests of tests/bad. Each begins with comments: the field that a refusal must name, and what it must say."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml


@dataclass(frozen=True)
class Bad:
    """One manifest. `local` tells whether a local run refuses it as well (it knows file:// and no names)."""

    path: Path
    field: str
    expect: str
    local: bool
    manifest: dict[str, Any]

    @property
    def name(self) -> str:
        """Of the file."""
        return self.path.stem


def _read(path: Path) -> Bad:
    text = path.read_text()
    notes = dict(line[2:].split(": ", 1) for line in text.splitlines() if line.startswith("# "))
    return Bad(path, notes["field"], notes["expect"], notes.get("note") != "cluster only", yaml.safe_load(text))


BAD = [_read(path) for path in sorted((Path(__file__).parent / "bad").glob("*.yaml"))]

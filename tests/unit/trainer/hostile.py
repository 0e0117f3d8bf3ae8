"""Names that would lead out of a folder, or trip who reads them; and what was written where."""

from pathlib import Path

NAMES = [
    "../../../../x",
    "a/../../../x",
    "/etc/x",
    "..\\..\\x",
    "a/./b",
    "%2e%2e/%2E%2e%2fx",
    "%252e%252e/x",
    "\u2025/\uff0e\uff0e/x",
    "a\nb",
    "a\x00b",
    "a//b",
    "n" * 201,
    "/".join(["n" * 100] * 11),
    "..",
]


def written(folder: Path, apart: str = "") -> set[str]:
    """All that stands below a folder, but for the part of it that a stage may write to."""
    names = {path.relative_to(folder).as_posix() for path in folder.rglob("*")}
    return {name for name in names if not apart or name.split("/")[0] != apart}

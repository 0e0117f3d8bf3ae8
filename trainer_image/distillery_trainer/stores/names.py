"""Names that others chose: keys of a bucket, files of a volume or a repository, paths in a manifest. They stay inside.

A name is taken as it stands or refused; none is mended, because two could then become one.
"""

from __future__ import annotations

import unicodedata
from pathlib import Path
from typing import Annotated, Final
from urllib.parse import unquote

from pydantic import AfterValidator

from distillery.api import reasons
from distillery_trainer.errors import StageError

#: A key of S3; and a file name of Linux. Our own suffix (`.part`) and prefix (FolderStore writes beside) still fit.
_LONGEST: Final = 1024
_LONGEST_PART: Final = 200
_UNSEEN: Final = ("Cc", "Cs", "Zl", "Zp")


def fault_of(name: str) -> str | None:
    """Why a relative path (forward slashes) is refused; None where it may be used."""
    if name.startswith("/"):
        return "is absolute"
    if "\\" in name:
        return "holds a backslash"
    if any(unicodedata.category(letter) in _UNSEEN for letter in name):
        return "holds a character that cannot be seen"
    parts = name.split("/")
    if any(map(_dots, parts)) or any(map(_dots, _as_read_later(name).split("/"))):
        return "climbs, or stands still, with dots"
    if "" in parts:
        return "has an empty part"
    if len(name.encode()) > _LONGEST or any(len(part.encode()) > _LONGEST_PART for part in parts):
        return f"is longer than {_LONGEST} bytes, or a part of it longer than {_LONGEST_PART}"
    return None


def _dots(part: str) -> bool:
    return part.strip() in (".", "..")


def _as_read_later(name: str) -> str:
    """What it becomes where someone decodes it as a URL, even twice, or folds characters that look alike."""
    return unicodedata.normalize("NFKC", unquote(unquote(name))).replace("\\", "/")


def checked(name: str) -> str:
    """The name itself. ValueError where it is refused."""
    if fault := fault_of(name):
        raise ValueError(f"the name {shown(name)} {fault}")
    return name


def shown(name: str) -> str:
    """A foreign name as an error tells it: escaped, and bounded."""
    return ascii(name if len(name) <= 100 else name[:100] + "...")


def safe_join(folder: Path, name: str) -> Path:
    """The place of a foreign name in a folder of this machine, surely below it. StageError where there is none."""
    if fault := fault_of(name):
        raise refused(name, fault)
    place = folder / name
    if not place.parent.resolve().is_relative_to(folder.resolve()):
        raise refused(name, "leads outside by a link")
    return place


def refused(name: str, fault: str, where: str = "") -> StageError:
    """A user's mistake: what the store holds cannot be brought to a file system."""
    return StageError(reasons.BAD_INPUT, f"{where}the name {shown(name)} {fault}: rename or remove it")


#: A path of a manifest.
Name = Annotated[str, AfterValidator(checked)]

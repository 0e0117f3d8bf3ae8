"""The requirement files of images and tests hold the pins of pyproject.toml; after a change there, `make lock` writes them anew."""

import re
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
EXTRAS = PROJECT["optional-dependencies"]


FILES = sorted(
    str(path.relative_to(ROOT)) for folder in ("operator", "tests", "trainer_image") for path in (ROOT / folder).glob("requirements*.txt")
)


def locked(path: str) -> set[str]:
    """The `name==version` of each package."""
    return set(re.findall(r"^[^#\s]\S*", (ROOT / path).read_text(), re.MULTILINE))


def pinned(pins: list[str]) -> set[str]:
    """The pins as a requirement file writes them: canonical name, no extras."""
    requirements = [Requirement(pin) for pin in pins]
    return {f"{canonicalize_name(requirement.name)}{requirement.specifier}" for requirement in requirements}


@pytest.mark.parametrize(
    ("path", "pins"),
    [
        ("tests/requirements.txt", [*PROJECT["dependencies"], *(pin for pins in EXTRAS.values() for pin in pins)]),
        ("operator/requirements.txt", PROJECT["dependencies"]),
        ("trainer_image/requirements.txt", [pin for pin in [*EXTRAS["trainer"], *EXTRAS["export"]] if not pin.startswith("torch==")]),
    ],
)
def test_pins_are_locked(path: str, pins: list[str]) -> None:
    """Each pin stands in the file of what it is installed into."""
    missing = pinned(pins) - locked(path)
    assert not missing, f"{path} lacks {sorted(missing)}; run `make lock`"


@pytest.mark.parametrize("path", [path for path in FILES if not path.startswith("tests/")])
def test_images_have_the_versions_that_are_tested(path: str) -> None:
    """What runs in an image was run by the tests in the same version."""
    assert locked(path) <= locked("tests/requirements.txt")


@pytest.mark.parametrize("path", FILES)
def test_every_package_is_named_by_its_digest(path: str) -> None:
    """What an index serves under the same version tomorrow is taken only if its bytes are those of today: pip refuses what lacks a hash."""
    blocks = re.findall(r"^[^#\s].*(?:\n[ \t].*)*", (ROOT / path).read_text(), re.MULTILINE)
    assert blocks
    assert [block.split()[0] for block in blocks if not re.search(r"--hash=sha256:[0-9a-f]{64}", block)] == []


def test_operator_image_holds_no_training_library() -> None:
    """The control plane stays small; boto3 is the gateway's, for its store of answers."""
    names = {line.split("==")[0] for line in locked("operator/requirements.txt")}
    assert not names & {"torch", "transformers", "numpy"}


@pytest.mark.parametrize("place", ["operator/Dockerfile", "trainer_image/Dockerfile", "tests/kind/venv"])
def test_nothing_is_installed_from_an_index_without_its_digest(place: str) -> None:
    """But for what a person gives as TORCH, and our own wheel, which comes from no index."""
    text = (ROOT / place).read_text().replace("\\\n", " ")
    installs = [line for line in text.splitlines() if re.search(r"pip.* install ", line) and "--no-index" not in line]
    assert installs
    assert [line for line in installs if "--require-hashes" not in line and '"$@"' not in line] == []

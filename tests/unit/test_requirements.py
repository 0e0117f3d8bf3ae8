"""The requirement files of images and tests hold the pins of pyproject.toml; after a change there, `make lock` writes them anew."""

import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
EXTRAS = PROJECT["optional-dependencies"]


def locked(path: str) -> set[str]:
    """The `name==version` lines."""
    return {line for line in (ROOT / path).read_text().splitlines() if not line.startswith("#")}


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


@pytest.mark.parametrize("path", ["operator/requirements.txt", "trainer_image/requirements.txt", "trainer_image/requirements-cuda.txt"])
def test_images_have_the_versions_that_are_tested(path: str) -> None:
    """What runs in an image was run by the tests in the same version."""
    assert locked(path) <= locked("tests/requirements.txt")


def test_operator_image_holds_no_training_library() -> None:
    """The control plane stays small; boto3 is the gateway's, for its store of answers."""
    names = {line.split("==")[0] for line in locked("operator/requirements.txt")}
    assert not names & {"torch", "transformers", "numpy"}

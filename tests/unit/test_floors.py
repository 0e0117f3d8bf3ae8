"""The contracts of import-linter forget no module: one that comes later must stand in every list that speaks of all but one."""

import tomllib
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
CONTRACTS = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
#: Everything directly below the package.
MODULES = {
    f"distillery.{path.stem}"
    for path in (ROOT / "operator/distillery").iterdir()
    if path.stem != "__init__" and (path.suffix == ".py" or (path / "__init__.py").exists())
}


def contract(name: str) -> Any:
    """The one contract whose name begins so."""
    (found,) = (contract for contract in CONTRACTS if contract["name"].startswith(name))
    return found


def test_the_trainer_may_import_nothing_of_the_control_plane_but_the_contract() -> None:
    named = contract("Of the control plane the trainer knows")["forbidden_modules"]
    assert sorted(named) == sorted(MODULES - {"distillery.api"})


@pytest.mark.parametrize(
    ("name", "library", "exempt"),
    [
        ("Only the cluster package speaks to the API server", "kubernetes", "distillery.cluster"),
        ("Only the handlers know Kopf", "kopf", "distillery.handlers"),
    ],
)
def test_a_library_has_one_importer(name: str, library: str, exempt: str) -> None:
    pure, others = contract("Pure modules"), contract(name)
    assert library in pure["forbidden_modules"]
    assert others["forbidden_modules"] == [library]
    assert sorted([*pure["source_modules"], *others["source_modules"]]) == sorted(MODULES - {exempt})


@pytest.mark.parametrize(
    ("name", "container"),
    [
        ("No import goes up a floor", "distillery"),
        ("The gateway has floors too", "distillery.gateway"),
        ("The trainer has floors too", "distillery_trainer"),
    ],
)
def test_every_module_has_its_floor(name: str, container: str) -> None:
    """Which import-linter checks by itself, as long as it is told to."""
    floors = contract(name)
    assert floors["containers"] == [container]
    assert floors["exhaustive"] is True

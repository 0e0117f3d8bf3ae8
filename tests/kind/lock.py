"""Write the requirement files of the images and of the test environment from the pins of pyproject.toml (`make lock`).

One resolution covers everything, so that a library has the same version in the operator, in the trainer and under test; each file is the
closure of its own pins in that resolution. Linux, x86-64, CPython 3.11: what the images are.
"""

import json
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Iterable
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[2]
HEAD = "# Written by `make lock` from pyproject.toml; not edited by hand.\n"
CUDA = ("nvidia-", "cuda-")


def resolve(pins: list[str]) -> dict[str, dict[str, object]]:
    """What pip would install for these pins in an empty environment: metadata by canonical name."""
    with tempfile.NamedTemporaryFile(suffix=".json") as report:
        command = [sys.executable, "-m", "pip", "install", "--quiet", "--dry-run", "--ignore-installed", "--report", report.name, *pins]
        subprocess.run(command, check=True)
        items = json.loads(Path(report.name).read_text())["install"]
    return {canonicalize_name(item["metadata"]["name"]): item["metadata"] for item in items}


def closure(pins: Iterable[str], resolution: dict[str, dict[str, object]]) -> set[str]:
    """The names that the pins need, by the requirements of each package."""
    found: set[tuple[str, str]] = set()
    todo = [Requirement(pin) for pin in pins]
    while todo:
        wanted = todo.pop()
        name = canonicalize_name(wanted.name)
        for extra in ("", *wanted.extras):
            if (name, extra) in found:
                continue
            found.add((name, extra))
            for text in resolution[name].get("requires_dist", []):  # type: ignore[attr-defined]
                requirement = Requirement(text)
                if requirement.marker is None or requirement.marker.evaluate({"extra": extra}):
                    todo.append(requirement)
    return {name for name, _ in found}


def write(path: str, names: Iterable[str], resolution: dict[str, dict[str, object]]) -> None:
    """One `name==version` per line, sorted."""
    lines = sorted(f"{name}=={resolution[name]['version']}\n" for name in names)
    (ROOT / path).write_text(HEAD + "".join(lines))
    print(f"{path}: {len(lines)} packages")


def main() -> None:
    """Resolve once, write the four files."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    base, extras = project["dependencies"], project["optional-dependencies"]
    # Of the control plane's dependencies the pods need what the contract (distillery.api) imports.
    trainer = [*extras["trainer"], *extras["export"], *(pin for pin in base if pin.startswith(("pydantic==", "pyyaml==")))]
    resolution = resolve([*base, *(pin for pins in extras.values() for pin in pins)])
    write("tests/requirements.txt", resolution, resolution)
    write("operator/requirements.txt", closure(base, resolution), resolution)
    # The image takes torch as an argument; Triton (0.6 GB) serves torch.compile alone, which the trainer does not call.
    in_pods = closure(trainer, resolution) - {"torch", "triton"}
    cuda = {name for name in in_pods if name.startswith(CUDA)}
    write("trainer_image/requirements-cuda.txt", cuda, resolution)
    write("trainer_image/requirements.txt", in_pods - cuda, resolution)


if __name__ == "__main__":
    main()

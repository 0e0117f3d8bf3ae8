"""Write the requirement files of the images and of the test environment from the pins of pyproject.toml (`make lock`).

One resolution (uv) covers everything, so that a library has the same version in the operator, in the trainer and under test; each file is
the closure of its own pins in that resolution. Linux, x86-64, CPython 3.11: what the images are. Every file that the index serves of a
version is there by its sha256, so that pip takes no other (`--require-hashes`), whichever wheel a machine needs. What is locked stays as it
is until a pin changes; `make lock LOCK_ARGS=--upgrade` takes what is newest.
"""

import re
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Iterable
from pathlib import Path

ROOT = Path(__file__).parents[2]
ALL = ROOT / "tests/requirements.txt"
HEAD = "# Written by `make lock` from pyproject.toml; not edited by hand.\n"
PLATFORM = ["--python-version", "3.11", "--python-platform", "x86_64-unknown-linux-gnu"]
CUDA = ("nvidia-", "cuda-")
# Of the control plane's dependencies the pods need what the contract (distillery.api) imports.
OF_THE_CONTRACT = ("google-re2==", "pydantic==", "pyyaml==")


def compiled(pins: Iterable[str], into: Path, *options: str) -> dict[str, str]:
    """The closure of these pins: by name, the lines `name==version` and its hashes. uv prefers the versions that `into` has."""
    command = ["uv", "pip", "compile", "-", "--quiet", "--generate-hashes", "--no-header", "--no-annotate", *PLATFORM, *options]
    subprocess.run([*command, "--output-file", str(into)], check=True, input="\n".join(pins), text=True)
    blocks = re.findall(r"^(?!#)\S.*(?:\n[ \t].*)*", into.read_text(), re.MULTILINE)
    return {block.split("==")[0]: block + "\n" for block in blocks}


def write(path: str, blocks: dict[str, str]) -> None:
    """One package after the other, sorted."""
    (ROOT / path).write_text(HEAD + "".join(blocks[name] for name in sorted(blocks)))
    print(f"{path}: {len(blocks)} packages")


def only(names: Iterable[str], blocks: dict[str, str]) -> dict[str, str]:
    """Those of the blocks."""
    return {name: blocks[name] for name in names}


def main(options: list[str]) -> None:
    """Resolve all pins at once, then each file's within that."""
    configuration = tomllib.loads((ROOT / "pyproject.toml").read_text())
    project = configuration["project"]
    base, extras = project["dependencies"], project["optional-dependencies"]
    everything = [*base, *(pin for pins in extras.values() for pin in pins)]
    write("tests/requirements.txt", compiled(everything, ALL, *options))
    with tempfile.TemporaryDirectory() as folder:

        def within(pins: Iterable[str]) -> dict[str, str]:
            return compiled(pins, Path(folder) / "closure", "--constraint", str(ALL))

        write("operator/requirements.txt", within(base))
        in_pods = within([*extras["trainer"], *extras["export"], *(pin for pin in base if pin.startswith(OF_THE_CONTRACT))])
        tools = within(["pip", *configuration["build-system"]["requires"]])
    # The image takes torch as an argument; Triton (0.6 GB) serves torch.compile alone, which the trainer does not call.
    cuda = {name for name in in_pods if name.startswith(CUDA)}
    write("trainer_image/requirements-cuda.txt", only(cuda, in_pods))
    write("trainer_image/requirements-torch.txt", only({"torch"}, in_pods))
    write("trainer_image/requirements.txt", only(in_pods.keys() - cuda - {"torch", "triton"}, in_pods))
    for image in ("operator", "trainer_image"):  # what builds our own wheel in them
        write(f"{image}/requirements-build.txt", tools)


if __name__ == "__main__":
    main(sys.argv[1:])

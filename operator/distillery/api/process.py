"""What the process of a stage is told: its arguments, its environment and its folders.

The operator and `distill run` start such processes, the trainer is one; each side takes the names from here.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from typing import Final

from .kinds import PREFLIGHT
from .stages import Stage

#: The program of the trainer image.
PROGRAM: Final = "distill"

# -- names in the environment, beside the credentials (`inputs`)
JOB: Final = "DISTILLERY_JOB"
WORK: Final = "DISTILLERY_WORK"
VOLUMES: Final = "DISTILLERY_VOLUMES"
RESULT: Final = "DISTILLERY_RESULT"
#: Where progress goes: to the gateway, or into a file that `distill run` reads.
PROGRESS_URL: Final = "DISTILLERY_PROGRESS_URL"
PROGRESS_FILE: Final = "DISTILLERY_PROGRESS_FILE"
#: The pod's own token for the gateway.
TOKEN_FILE: Final = "DISTILLERY_TOKEN_FILE"
#: Set for stages that ask a teacher behind an API.
GATEWAY_URL: Final = "DISTILLERY_GATEWAY_URL"
#: Which shard of an Indexed Job a pod is; Kubernetes' own name.
SHARD: Final = "JOB_COMPLETION_INDEX"

# -- folders and files of a pod: what holds where the environment names no other
JOB_FOLDER: Final = "/etc/distillery"
JOB_FILE: Final = "job.json"
WORK_FOLDER: Final = "/work"
VOLUMES_FOLDER: Final = "/volumes"
TOKEN_FOLDER: Final = "/var/run/secrets/distillery"
TERMINATION_LOG: Final = "/dev/termination-log"


def arguments(stage: Stage, hashes: Mapping[str, str]) -> list[str]:
    """The arguments of `distill` for a stage. `hashes` has its own and those of the stages before it, as far as they are known."""
    before = [f"{name}={value}" for name, value in hashes.items() if name != stage.name]
    return [stage.kind, "--stage", stage.name, "--hash", hashes[stage.name], *(["--inputs", *before] if before else [])]


def add_arguments(command: argparse.ArgumentParser, kind: str) -> None:
    """What `arguments` writes, for the parser of a kind's verb: `stage`, `hash` and `inputs`."""
    command.add_argument("--stage", default=kind, help="name of the stage, where it differs from its kind")
    command.add_argument("--hash", default="", required=kind != PREFLIGHT, help="sha256 that names the stage's output")
    command.add_argument("--inputs", nargs="*", default=[], type=_pair, metavar="STAGE=HASH", help="hashes of the stages before")


def _pair(text: str) -> tuple[str, str]:
    name, found, value = text.partition("=")
    if not found or not value:
        raise argparse.ArgumentTypeError(f"{text!r} is not STAGE=HASH")
    return name, value

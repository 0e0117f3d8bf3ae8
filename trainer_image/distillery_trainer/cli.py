"""`distill`: one subcommand per kind of stage, as the pods call it; `run` and `plan` for jobs on one machine."""

from __future__ import annotations

import argparse
import logging
import os
import signal
import sys
from collections.abc import Sequence

STAGES = {
    "preflight": "check the inputs and say what is already done",
    "traces": "let the teacher write and score",
    "curate": "choose the rows to train on",
    "train": "train the student",
    "evaluate": "measure teacher, student and baseline, and check the gates",
    "export": "make one artifact and measure it in its own runtime",
    "publish": "publish the model, the artifacts and their lineage",
}
TERMINATED = 143
LOCAL = {"run": "run a job on this machine", "plan": "print the stages of a job"}


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point; returns the exit code (0, 64 user's mistake, 75 temporary, 76 no budget now, 143 stopped, else a bug)."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    if given and given[0] in LOCAL:
        # Planning belongs to the control plane, which this package does not import.
        os.execv(sys.executable, [sys.executable, "-m", "distillery.local", *given])
    options = _parser().parse_args(given)
    # As process 1 of a container, nothing stops us by default; the stage takes over once it is imported.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(TERMINATED))
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s", datefmt="%H:%M:%S", stream=sys.stderr)
    # Bars that redraw themselves are noise in a pod's log; read when tqdm is imported.
    os.environ.setdefault("TQDM_DISABLE", "1")
    # Read by OpenMP when torch is loaded. Threads that spin while they wait for one another make a training step ten times slower where
    # other pods share the CPUs (measured: over 4 s against 0.4 s); asleep they cost microseconds.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    from .stage import execute

    return execute(options.kind, options.stage or options.kind, options.hash, dict(options.inputs))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="distill", description="LLM distillation as a Kubernetes resource.")
    commands = parser.add_subparsers(dest="kind", required=True)
    for name, text in LOCAL.items():
        commands.add_parser(name, help=text, add_help=False)
    for name, text in STAGES.items():
        command = commands.add_parser(name, help=f"{text} (called by a stage's pod)")
        command.add_argument("--stage", default="", help="name of the stage, where it differs from its kind")
        command.add_argument("--hash", default="", required=name != "preflight", help="sha256 that names the stage's output")
        command.add_argument("--inputs", nargs="*", default=[], type=_pair, metavar="STAGE=HASH", help="hashes of the stages before")
    return parser


def _pair(text: str) -> tuple[str, str]:
    name, found, value = text.partition("=")
    if not found or not value:
        raise argparse.ArgumentTypeError(f"{text!r} is not STAGE=HASH")
    return name, value

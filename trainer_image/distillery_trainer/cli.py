"""The verbs of `distill` that a job's pods call: one per kind of stage. The program itself (`distillery.local`) asks for them by name."""

from __future__ import annotations

import argparse
import logging
import os
import signal
import sys

from distillery.api.kinds import KINDS
from distillery.api.process import add_arguments

TERMINATED = 143


def add_verbs(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the stages to the parser of `distill`."""
    for name, text in ((kind.name, kind.about) for kind in KINDS.values()):
        command = commands.add_parser(
            name, help=f"{text} (a stage: its pod calls it)", description=f"{text[0].upper()}{text[1:]}. Called by the stage's pod."
        )
        add_arguments(command, name)
        command.set_defaults(verb=execute, kind=name)


def execute(options: argparse.Namespace) -> int:
    """Run the stage; returns the exit code (0, 64 user's mistake, 75 temporary, 76 no budget now, 143 stopped, else a bug)."""
    # As process 1 of a container, nothing stops us by default; the stage takes over once it is imported.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(TERMINATED))
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s", datefmt="%H:%M:%S", stream=sys.stderr)
    # Bars that redraw themselves are noise in a pod's log; read when tqdm is imported.
    os.environ.setdefault("TQDM_DISABLE", "1")
    # Read by OpenMP when torch is loaded. Threads that spin while they wait for one another make a training step ten times slower where
    # other pods share the CPUs (measured: over 4 s against 0.4 s); asleep they cost microseconds.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    from .runner.execute import execute as run

    return run(options.kind, options.stage, options.hash, dict(options.inputs))

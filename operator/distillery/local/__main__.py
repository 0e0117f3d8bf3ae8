"""`distill`: one program for all verbs. `run`, `plan` and `watch` are for people; a verb for each kind of stage is what a job's pods call.

A verb's code is imported when it is called: a pod of a stage has none of the control plane's libraries. The trainer, which knows of this
package the contract alone, brings its verbs itself and is asked for them by name.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import Final

from . import verbs

#: Has `add_verbs(commands)`, which adds the stages.
STAGES: Final = "distillery_trainer.cli"

EPILOG: Final = """\
examples:
  distill plan job.yaml --budget budget.yaml    what the job would do, ask and pay; nothing is asked or bought
  distill run job.yaml                          the whole job on this machine
  distill watch < <(kubectl get dj NAME --watch -o json)

exit codes: 0 done; 64 a mistake in the manifest; 75 a temporary failure, try again; 76 no budget now; 143 stopped; else a bug
`distill VERB --help` explains a verb; every field of a job: docs/api.md, or `kubectl explain dj.spec`
"""
MAPPED: Final = """\
A bucket (s3://BUCKET/...) or a claim (pvc://CLAIM/...) is a folder of that name: inputs are looked for below --root, then below
--store; output goes below --store. hf:// is fetched from Hugging Face.
"""
STREAM: Final = """\
Reads the objects that kubectl prints, draws a bar for each stage, and the tables at the job's end:

  distill watch < <(kubectl get dj NAME --watch -o json)

Not by a pipe (`kubectl ... | distill watch`): the shell would wait for kubectl, which notices at its next event only that its reader is
gone. Exit codes: 0 the job succeeded, or has the condition of --until; 1 it failed; 2 the stream ended first.
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point; returns the exit code of the verb."""
    given = parser().parse_args(arguments)
    code: int = given.verb(given)
    return code


def parser() -> argparse.ArgumentParser:
    """Of all verbs; each sets `verb`, the function that takes what was parsed and returns the exit code."""
    whole = argparse.ArgumentParser(
        prog="distill",
        description="LLM distillation as a Kubernetes resource: jobs on this machine, jobs of a cluster, and the stages that pods run.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = whole.add_subparsers(metavar="VERB", required=True, title="verbs")
    run = _command(commands, "run", "run the job's stages as processes of this machine", MAPPED)
    run.set_defaults(verb=verbs.run)
    plan = _command(commands, "plan", "show the stages that would run, and what an endpoint teacher would cost", MAPPED)
    plan.set_defaults(verb=verbs.plan)
    _add_estimate(plan)
    for command in (run, plan):
        command.add_argument("manifest", type=Path, help="file with one DistillationJob")
        command.add_argument("--root", type=Path, default=Path(), help="the folder of inputs (default: the current one)")
        command.add_argument("--store", type=Path, default=Path("runs"), help="the folder of outputs (default: %(default)s)")
    watch = _command(commands, "watch", "draw a cluster's job while it runs, from what kubectl prints", STREAM)
    watch.add_argument("--until", metavar="TYPE=STATUS", help="stop at this condition, for example Suspended=True, or at the job's end")
    watch.set_defaults(verb=verbs.watch)
    import_module(STAGES).add_verbs(commands)
    return whole


def _command(commands: argparse._SubParsersAction[argparse.ArgumentParser], name: str, text: str, more: str) -> argparse.ArgumentParser:
    description = f"{text[0].upper()}{text[1:]}.\n\n{more}"
    return commands.add_parser(name, help=text, description=description, formatter_class=argparse.RawDescriptionHelpFormatter)


def _add_estimate(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--budget", type=Path, help="file with the job's TeacherBudget: prints what its teacher would cost, and the verdict of its terms"
    )
    command.add_argument(
        "--terms",
        type=Path,
        action="append",
        default=[],
        help="catalogue of terms in place of the one that is shipped; a second one overrides the first",
    )
    command.add_argument("--rows", type=int, help="training rows, where they cannot be read here")
    command.add_argument("--prompt-bytes", type=int, default=2000, help="average size of their prompts (default: %(default)s)")


if __name__ == "__main__":
    sys.exit(main())

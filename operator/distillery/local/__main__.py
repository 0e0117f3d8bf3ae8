"""Command line of the local run: `distill run`, `distill plan`, `distill watch`."""

from __future__ import annotations

import argparse
import sys
from datetime import UTC, datetime
from pathlib import Path

from rich.console import Console

from distillery.api.job import FrozenJob
from distillery.api.result import DONE, USER_MISTAKE

from .load import BadManifest, load_job
from .plan import print_estimate, print_stages
from .prompts import Assumed
from .run import StageFailed, run_job
from .view import Stages, print_results
from .watch import watch


def main() -> None:
    """Parse, run, exit with the stage's own code."""
    arguments = _parser().parse_args()
    console = Console()
    if arguments.command == "watch":
        sys.exit(watch(sys.stdin, console, arguments.until))
    try:
        job = load_job(arguments.manifest, arguments.root, arguments.store)
        if arguments.command == "plan":
            sys.exit(_plan(job, arguments, console))
        else:
            _run(job, arguments.store, console)
    except BadManifest as error:
        console.print(str(error), style="red", markup=False, highlight=False, soft_wrap=True)
        sys.exit(USER_MISTAKE)
    except StageFailed as error:
        console.print(str(error), style="red", markup=False, highlight=False, soft_wrap=True)
        sys.exit(error.code)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="distill", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    for name, text in (
        ("run", "run the job's stages as processes of this machine"),
        ("plan", "show the stages that would run, and what an endpoint teacher would cost"),
    ):
        command = commands.add_parser(name, help=text, description=text)
        command.add_argument("manifest", type=Path, help="file with one DistillationJob")
        command.add_argument(
            "--root", type=Path, default=Path(), help="where s3://BUCKET/… and pvc://CLAIM/… are read: a folder BUCKET below this one"
        )
        command.add_argument("--store", type=Path, default=Path("runs"), help="where output goes, in a folder named like the bucket")
        if name == "plan":
            _add_estimate(command)
    watched = commands.add_parser("watch", help="draw a cluster's job from `kubectl get dj NAME --watch -o json`")
    watched.add_argument("--until", metavar="TYPE=STATUS", help="stop at this condition, for example Suspended=True, or at the job's end")
    return parser


def _add_estimate(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--budget", type=Path, help="file with the job's TeacherBudget: prints what its teacher would cost, and the verdict of its terms"
    )
    command.add_argument(
        "--terms",
        type=Path,
        action="append",
        default=[],
        help="catalogue of terms (files/terms.yaml of the chart); a second one overrides the first",
    )
    command.add_argument("--rows", type=int, help="training rows, where they cannot be read here")
    command.add_argument("--prompt-bytes", type=int, default=2000, help="average size of their prompts (default: %(default)s)")


def _plan(job: FrozenJob, arguments: argparse.Namespace, console: Console) -> int:
    """Exit code: that of a user's mistake where the job would not be let through."""
    print_stages(job, console)
    if arguments.budget is None:
        if job.spec.teacher.endpoint is not None:
            console.print(
                "\nGive the TeacherBudget with --budget to see what the teacher would cost, and what its terms say.", highlight=False
            )
        return DONE
    assumed = Assumed(arguments.rows, arguments.prompt_bytes) if arguments.rows else None
    allowed = print_estimate(job, arguments.budget, arguments.terms, assumed, datetime.now(UTC), console)
    return DONE if allowed else USER_MISTAKE


def _run(job: FrozenJob, store: Path, console: Console) -> None:
    with Stages(console) as stages:
        status = run_job(job, store.resolve() / "work" / f"{job.name}-{job.uid[:8]}", stages.show)
    print_results(status, console)


if __name__ == "__main__":
    main()

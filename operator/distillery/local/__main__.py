"""Command line of the local run: `distill run`, `distill plan`, `distill watch`."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from rich.console import Console

from distillery.api.job import FrozenJob
from distillery.api.result import USER_MISTAKE
from distillery.api.stages import planned_stages

from .load import BadManifest, load_job
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
            _plan(job, console)
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
    for name, text in (("run", "run the job's stages as processes of this machine"), ("plan", "show the stages that would run")):
        command = commands.add_parser(name, help=text, description=text)
        command.add_argument("manifest", type=Path, help="file with one DistillationJob")
        command.add_argument(
            "--root", type=Path, default=Path(), help="where s3://BUCKET/… and pvc://CLAIM/… are read: a folder BUCKET below this one"
        )
        command.add_argument("--store", type=Path, default=Path("runs"), help="where output goes, in a folder named like the bucket")
    watched = commands.add_parser("watch", help="draw a cluster's job from `kubectl get dj NAME --watch -o json`")
    watched.add_argument("--until", metavar="TYPE=STATUS", help="stop at this condition, for example Suspended=True, or at the job's end")
    return parser


def _plan(job: FrozenJob, console: Console) -> None:
    for stage in planned_stages(job.spec):
        console.print(f"{stage.name:<24} after {', '.join(stage.needs) or '-'}", highlight=False)


def _run(job: FrozenJob, store: Path, console: Console) -> None:
    with Stages(console) as stages:
        status = run_job(job, store.resolve() / "work" / f"{job.name}-{job.uid[:8]}", stages.show)
    print_results(status, console)


if __name__ == "__main__":
    main()

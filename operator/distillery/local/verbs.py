"""The verbs that people call: each takes what was parsed and returns the exit code. What they need is imported when they are called."""

from __future__ import annotations

import argparse
import sys
from datetime import UTC, datetime

from distillery.api.result import DONE, USER_MISTAKE


def run(arguments: argparse.Namespace) -> int:
    """`distill run`: the stages one after the other, then the tables."""
    from rich.console import Console

    from .load import BadManifest, load_job
    from .run import StageFailed, run_job
    from .view import Stages, print_results

    console = Console()
    try:
        job = load_job(arguments.manifest, arguments.root, arguments.store)
        with Stages(console) as stages:
            status = run_job(job, arguments.store.resolve() / "work" / f"{job.name}-{job.uid[:8]}", stages.show)
    except (BadManifest, StageFailed) as error:
        console.print(str(error), style="red", markup=False, highlight=False, soft_wrap=True)
        return error.code
    print_results(status, console)
    return DONE


def plan(arguments: argparse.Namespace) -> int:
    """`distill plan`: that of a user's mistake where the job would not be let through."""
    from rich.console import Console

    from .load import BadManifest, load_job
    from .plan import print_estimate, print_stages
    from .prompts import Assumed

    console = Console()
    try:
        job = load_job(arguments.manifest, arguments.root, arguments.store)
        print_stages(job, console)
        if arguments.budget is None:
            if job.spec.teacher.endpoint is not None:
                advice = "\nGive the TeacherBudget with --budget to see what the teacher would cost, and what its terms say."
                console.print(advice, highlight=False, soft_wrap=True)
            return DONE
        assumed = Assumed(arguments.rows, arguments.prompt_bytes) if arguments.rows else None
        allowed = print_estimate(job, arguments.budget, arguments.terms, assumed, datetime.now(UTC), console)
    except BadManifest as error:
        console.print(str(error), style="red", markup=False, highlight=False, soft_wrap=True)
        return error.code
    return DONE if allowed else USER_MISTAKE


def watch(arguments: argparse.Namespace) -> int:
    """`distill watch`: see watch.watch."""
    from rich.console import Console

    from .watch import watch as draw

    if sys.stdin.isatty():
        sys.stderr.write("distill watch: nothing to read; write `distill watch < <(kubectl get dj NAME --watch -o json)`\n")
        return USER_MISTAKE
    return draw(sys.stdin, Console(), arguments.until)

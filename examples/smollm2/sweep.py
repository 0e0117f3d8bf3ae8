"""How much hard label? Trains the student of job.yaml once per weight, on the same traces, and prints what each weight gives.

The pipeline itself does the work: one job per weight with one output, so teacher, text and signal are made once and found again. The
response objective stays in the job at weight 0, so that plain fine-tuning (SFT) reads the same traces.
examples/smollm2/fetch runs && python examples/smollm2/sweep.py --store runs [--weights 1 0.5 0.2 0] [--steps 100]
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

import yaml
from rich.console import Console
from rich.table import Table

from distillery.api.measure import EvaluationResult
from distillery.local.load import load_job
from distillery.local.run import StageFailed, run_job
from distillery.local.view import Stages

HERE = Path(__file__).parent
METRICS = ("labelAccuracy", "retention", "teacherKL", "top1Agreement", "perplexity")
#: What the teacher is to itself.
ITSELF = {"retention": "1", "teacherKL": "0", "top1Agreement": "1"}


def variant(manifest: dict[str, Any], hard_label: float, changes: dict[str, Any]) -> dict[str, Any]:
    """The job with this weight of the hard labels, 1 minus it for the response; nothing is gated or exported."""
    spec = manifest["spec"]
    response = next(o["response"] for o in spec["method"]["rounds"][0]["objectives"] if "response" in o)
    objectives = [{"response": {**response, "weight": f"{1 - hard_label:g}"}}, {"hardLabel": {"weight": f"{hard_label:g}"}}]
    evaluation = {key: value for key, value in spec["evaluation"].items() if key != "gates"}
    return {
        **manifest,
        "metadata": {"name": f"smollm2-hard-{round(hard_label * 100)}"},
        "spec": {
            **spec,
            "method": {"rounds": [{"objectives": objectives}]},
            "training": {**spec["training"], **changes},
            "evaluation": evaluation,
            "exports": [],
        },
    }


def measure(manifest: dict[str, Any], store: Path, console: Console) -> EvaluationResult:
    """Run the job, or find what an earlier run of it left. StageFailed where a stage fails."""
    name = manifest["metadata"]["name"]
    path = store / "sweep" / f"{name}.yaml"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(yaml.safe_dump(manifest, sort_keys=False))
    job = load_job(path, HERE.parents[1], store)
    console.print(f"{name}:")
    with Stages(console) as stages:
        status = run_job(job, store.resolve() / "work" / f"{job.name}-{job.uid[:8]}", stages.show)
    if status.evaluation is None:
        raise RuntimeError(f"job {name} ended without an evaluation; its stages' logs are below {store}/work")
    return status.evaluation


def table(found: dict[float, EvaluationResult]) -> Table:
    """Teacher, untrained cut, then a row per weight."""
    drawn = Table(title=f"{next(iter(found.values())).rows} held-out rows", box=None)
    for header in ("", *METRICS):
        drawn.add_column(header, justify="right" if header else "left")
    first = {row.metric: row for row in next(iter(found.values())).results}
    drawn.add_row("teacher", *(_cell(first, metric, "teacher", ITSELF) for metric in METRICS))
    drawn.add_row("untrained cut", *(_cell(first, metric, "baseline", {}) for metric in METRICS))
    for weight, evaluation in found.items():
        name = {1.0: "SFT (hard labels only)", 0.0: "KD (response only)"}.get(weight, f"KD, hard labels {weight:g}")
        rows = {row.metric: row for row in evaluation.results}
        drawn.add_row(name, *(_cell(rows, metric, "student", {}) for metric in METRICS))
    return drawn


def _cell(rows: dict[str, Any], metric: str, side: str, known: dict[str, str]) -> str:
    return known.get(metric) or (getattr(rows[metric], side) if metric in rows else None) or "-"


def main() -> None:
    """Train per weight, print the table after each."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--store", type=Path, default=Path("runs"), help="as in distill run")
    parser.add_argument("--weights", type=float, nargs="+", default=[1.0, 0.5, 0.2, 0.0], help="of the hard labels, between 0 and 1")
    parser.add_argument("--steps", type=int, help="instead of the job's")
    parser.add_argument("--learning-rate", help="instead of the job's")
    arguments = parser.parse_args()
    given = {"maxSteps": arguments.steps, "learningRate": arguments.learning_rate}
    manifest = yaml.safe_load((HERE / "job.yaml").read_text())
    console = Console()
    found: dict[float, EvaluationResult] = {}
    for weight in arguments.weights:
        changes = {key: value for key, value in given.items() if value is not None}
        try:
            found[weight] = measure(variant(manifest, weight, changes), arguments.store, console)
        except StageFailed as error:
            console.print(str(error), style="red", markup=False, highlight=False, soft_wrap=True)
            sys.exit(error.code)
        console.print(table(found))


if __name__ == "__main__":
    main()

"""What a person sees of a job: a bar per stage while it runs, tables at its end. Drawn with rich from the job's status."""

from __future__ import annotations

from types import TracebackType
from typing import Self

from rich.console import Console
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from distillery.api.measure import Artifact, EvaluationResult
from distillery.api.status import DistillationJobStatus, StageStatus

_COLOURS = {"Succeeded": "green", "Reused": "green", "Failed": "red", "Running": "cyan", "Waiting": "yellow", "Suspended": "yellow"}


class Stages:
    """The stages while they run: bars that move on a terminal, a line per change of state in a log."""

    def __init__(self, console: Console) -> None:
        """Draw on this console."""
        self._console, self._states = console, dict[str, str]()
        self._live = Live(console=console, auto_refresh=False) if console.is_terminal else None

    def __enter__(self) -> Self:
        """Begin to draw."""
        if self._live:
            self._live.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        """Leave the last picture standing."""
        if self._live:
            self._live.stop()

    def show(self, status: DistillationJobStatus) -> None:
        """Draw what is new."""
        if self._live:
            self._live.update(stages_table(status), refresh=True)
            return
        for stage in status.stages:
            if stage.state != self._states.get(stage.name, "Pending"):
                self._console.print(f"{stage.name}: {stage.state}  {_saying(stage)}", highlight=False, markup=False, soft_wrap=True)
            self._states[stage.name] = stage.state


def stages_table(status: DistillationJobStatus) -> Table:
    """One row per stage: name, state, bar, what it says."""
    table = Table.grid(padding=(0, 2))
    for stage in status.stages:
        state = Text(stage.state, style=_COLOURS.get(stage.state, "dim"))
        table.add_row(
            stage.name,
            state,
            ProgressBar(total=100, completed=_percentage(stage), width=30),
            Text(_saying(stage), overflow="ellipsis", no_wrap=True),
        )
    return table


def _percentage(stage: StageStatus) -> int:
    if stage.state in ("Succeeded", "Reused"):
        return 100
    return stage.progress.percentage if stage.progress else 0


def _saying(stage: StageStatus) -> str:
    parts = []
    if stage.state == "Running" and stage.progress and stage.progress.total:
        parts.append(f"{stage.progress.done}/{stage.progress.total} {stage.progress.unit or ''}".strip())
        parts.extend(f"{m.name} {m.value}" for m in stage.metrics[:2])
        if stage.progress.estimated_remaining_seconds is not None:
            parts.append(f"{stage.progress.estimated_remaining_seconds} s left")
    if stage.message:
        parts.append(stage.message)
    return " · ".join(parts)


def print_results(status: DistillationJobStatus, console: Console) -> None:
    """The tables of a finished job: quality, exports; then the URIs, whole, for whoever copies them."""
    if status.evaluation:
        console.print(_quality(status.evaluation))
    if status.artifacts:
        console.print(_exports(status.artifacts))
    lines = [(a.name, a.uri or f"withheld: {a.message or 'not published'}") for a in status.artifacts]
    lines += [(label, uri) for label, uri in (("model", status.model_uri), ("report", status.report_uri)) if uri]
    width = max((len(name) for name, _ in lines), default=0)
    for name, text in lines:
        console.print(f"{name:<{width}}  {text}", soft_wrap=True, highlight=False, markup=False)


def _quality(evaluation: EvaluationResult) -> Table:
    table = Table(title=f"Quality on {evaluation.rows or '?'} held-out rows")
    for header in ("", "teacher", "student", "untrained", "retention"):
        table.add_column(header, justify="left" if not header else "right")
    for row in evaluation.results:
        table.add_row(row.metric, *(value or "-" for value in (row.teacher, row.student, row.baseline, row.retention)))
    count = [f"{n / 1e6:.2f} M" if n else "-" for n in (evaluation.teacher_parameters, evaluation.student_parameters)]
    table.add_row("parameters", *count, count[1], f"{evaluation.compression}x smaller" if evaluation.compression else "")
    return table


def _exports(artifacts: list[Artifact]) -> Table:
    accuracy = "labelAccuracy" if any(m.name == "labelAccuracy" for a in artifacts for m in a.evaluation) else "exactMatch"
    shown = (accuracy, "retention", "agreement")
    table = Table(title="Exports, each measured in its own runtime")
    for header in ("name", "format", "size", *shown):
        table.add_column(header, justify="left" if header in ("name", "format") else "right")
    for a in artifacts:
        measured = {m.name: m.value for m in a.evaluation}
        size = f"{a.size_bytes / 1e6:.2f} MB" if a.size_bytes is not None else "-"
        table.add_row(a.name, f"{a.format} {a.quantization}", size, *(measured.get(name, "-") for name in shown))
    return table

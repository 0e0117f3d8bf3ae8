"""Which stages a spec needs, and in which order.

The operator plans with it and the preflight stage hashes with it (`hashes`), so that both speak of the same stages.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from .job import DistillationJobSpec
from .measure import Export

#: Raised only when the meaning of a stage's output changes: then, and only then, finished stages are run again.
FORMATS: Mapping[str, int] = {"traces": 1, "curate": 1, "train": 2, "evaluate": 1, "export": 1, "publish": 1}
PREFLIGHT, TRACES, CURATE, TRAIN, EVALUATE, PUBLISH = "preflight", "traces", "curate", "train", "evaluate", "publish"


class Stage(NamedTuple):
    """A node of the graph: `kind` is its subcommand, `needs` are the stages whose success it waits for."""

    name: str
    kind: str
    needs: tuple[str, ...]
    export: Export | None = None


def planned_stages(spec: DistillationJobSpec) -> tuple[Stage, ...]:
    """The stages of a spec in topological order."""
    stages = [Stage(PREFLIGHT, PREFLIGHT, ())]

    def after(name: str, *needs: str, kind: str = "", export: Export | None = None) -> None:
        stages.append(Stage(name, kind or name, needs, export))

    if spec.teacher.traces is None:
        after(TRACES, PREFLIGHT)
    after(CURATE, stages[-1].name)
    after(TRAIN, CURATE)
    after(EVALUATE, TRAIN)
    exports = [f"export-{e.name}" for e in spec.exports]
    for name, export in zip(exports, spec.exports, strict=True):
        after(name, EVALUATE, kind="export", export=export)
    after(PUBLISH, *(exports or [EVALUATE]))
    return tuple(stages)

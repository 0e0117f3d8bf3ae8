"""Which stages a spec needs, and in which order.

The operator plans with it and the preflight stage hashes with it (`hashes`), so that both speak of the same stages.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from .job import DistillationJobSpec
from .kinds import KINDS, Kind, stage_name
from .measure import ArtifactGate, Export, Gate


class Stage(NamedTuple):
    """A node of the graph: `kind` is its subcommand, `needs` are the stages whose success it waits for, `reads` those whose output it is
    made of."""

    name: str
    kind: str
    needs: tuple[str, ...]
    reads: tuple[str, ...] = ()
    export: Export | None = None


def planned_stages(spec: DistillationJobSpec) -> tuple[Stage, ...]:
    """The stages of a spec in topological order: each waits for every stage of the kind before."""
    stages: list[Stage] = []
    before: tuple[str, ...] = ()
    for kind in KINDS.values():
        made = _stages_of(kind, spec, before)
        stages += made
        before = tuple(stage.name for stage in made) or before
    return tuple(stages)


def _stages_of(kind: Kind, spec: DistillationJobSpec, needs: tuple[str, ...]) -> list[Stage]:
    if not kind.needed(spec):
        return []
    if kind.per_export:
        return [Stage(stage_name(kind.name, export.name), kind.name, needs, kind.reads, export) for export in spec.exports]
    return [Stage(kind.name, kind.name, needs, kind.reads)]


def gates_of(spec: DistillationJobSpec, stage: Stage) -> Sequence[Gate | ArtifactGate]:
    """The gates that decide the end of a stage."""
    if not KINDS[stage.kind].gated:
        return []
    return stage.export.gates if stage.export else spec.evaluation.gates

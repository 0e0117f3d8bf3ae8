"""Gates: what the job's author asks of the student and of each export, held against what was measured."""

from __future__ import annotations

from collections.abc import Sequence

from distillery.api.measure import Artifact, ArtifactGate, EvaluationResult, EvaluationRow, Export, Gate
from distillery_trainer.runner.manifest import Manifest

from .metrics import decimal

#: Agreement that every artifact without a gate on it must reach: below, it is another model than the one that was evaluated.
FLOOR = 0.5


def check_gates(evaluation: EvaluationResult, gates: Sequence[Gate | ArtifactGate]) -> list[str]:
    """One sentence for each gate that the student misses, with both numbers; a metric that was not measured is missed."""
    values = {row.metric: row.student for row in evaluation.results}
    misses = []
    for gate in gates:
        text = values.get(gate.metric)
        if text is None:
            misses.append(f"{gate.metric} was not measured (retention needs a teacher with a score above 0)")
        elif gate.min is not None and not float(text) >= float(gate.min):
            misses.append(f"{gate.metric} {text} is below min {gate.min}")
        elif gate.max is not None and not float(text) <= float(gate.max):
            misses.append(f"{gate.metric} {text} is above max {gate.max}")
    return misses


def judged(manifest: Manifest, export: Export) -> Artifact:
    """The artifact of a finished export stage under this job's name for it and gates. One that could not be made has said why."""
    rows = [EvaluationRow(metric=name, student=decimal(value)) for name, value in manifest.metrics.items()]
    artifact = manifest.result.artifact or Artifact(name=export.name, format=export.format, quantization=export.quantization)
    misses = check_gates(EvaluationResult(results=rows), export.gates)
    told = f"spec.exports[{export.name}].gates: {'; '.join(misses)}" if misses else None
    if artifact.passed is False:
        told = f"spec.exports[{export.name}]: {artifact.message}"
    agreement = manifest.metrics.get("agreement", 1.0)
    if told is None and agreement < FLOOR and all(gate.metric != "agreement" for gate in export.gates):
        told = f"spec.exports[{export.name}]: {_below(agreement)}"
    return artifact.model_copy(update={"name": export.name, "passed": told is None, "message": told})


def _below(agreement: float) -> str:
    text = f"it answers {decimal(agreement)} of the held-out rows as the student did before export, less than {FLOOR}"
    remedy = "use a quantization that keeps more, or say with a gate on agreement that less will do"
    return f"{text}: {remedy}"

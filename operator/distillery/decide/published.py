"""What of a stage's result the job's own status shows. The operator writes it down, and a local run shows it, alike."""

from __future__ import annotations

from collections.abc import Sequence

from distillery.api.measure import Artifact
from distillery.api.result import StageResult
from distillery.api.status import DistillationJobStatus


def published(status: DistillationJobStatus, result: StageResult) -> DistillationJobStatus:
    """With the evaluation, the URIs and the artifacts of a result."""
    change = {"evaluation": result.evaluation, "model_uri": result.model_uri, "report_uri": result.report_uri}
    artifacts: Sequence[Artifact] = status.artifacts
    if result.artifact is not None:
        artifacts = _with_artifact(artifacts, result.artifact.model_copy(update={"uri": None}))
    for artifact in result.artifacts or ():
        artifacts = _with_artifact(artifacts, artifact)
    return status.model_copy(update={**{name: value for name, value in change.items() if value is not None}, "artifacts": list(artifacts)})


def _with_artifact(artifacts: Sequence[Artifact], artifact: Artifact) -> list[Artifact]:
    """Listed under its name; one that missed its gates without a URI, and a trimmed one with what was measured before."""
    before = next((a for a in artifacts if a.name == artifact.name), None)
    change: dict[str, object] = {} if artifact.passed is not False else {"uri": None}
    if before and not artifact.evaluation:
        change["evaluation"] = before.evaluation
    artifact = artifact.model_copy(update=change)
    if before:
        return [artifact if a.name == artifact.name else a for a in artifacts]
    return [*artifacts, artifact][:8]

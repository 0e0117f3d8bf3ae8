"""The publish stage: what users fetch, in one folder, with its card, its lineage and the sha256 of each file.

    <output.uri>/<namespace>/<job>/<uid8>/    model/ (from_pretrained), artifacts/<name>/, README.md, manifest.json
    <output.uri>/<namespace>/<job>/latest.json    which of these is the newest, written last

Every file is put whole, and the same inputs give the same bytes: a run that was cut off is simply run again.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path
from typing import Any

from distillery.api.kinds import CURATE, EVALUATE, EXPORT, TRACES, TRAIN, stage_name
from distillery.api.measure import Artifact, EvaluationResult
from distillery.api.result import StageResult
from distillery.api.stages import planned_stages
from distillery_trainer.data.traces import HELD_OUT_LINES, TRAIN_LINES, TracesRecord
from distillery_trainer.export.runtimes import main_file
from distillery_trainer.measure.gates import judged
from distillery_trainer.publishing.model_card import card
from distillery_trainer.runner.context import Outcome, StageContext
from distillery_trainer.runner.manifest import File, Manifest
from distillery_trainer.teacher.endpoint.introduction import teacher_info
from distillery_trainer.teacher.endpoint.lineage import terms_lineage

CARD, REPORT, LATEST = "README.md", "manifest.json", "latest.json"


def run(context: StageContext) -> Outcome:
    """Copy what is published, write card and manifest, and point `latest` at it."""
    job, store = context.job, context.output
    home = f"{job.namespace}/{job.name}"
    root = f"{home}/{job.uid[:8]}"
    artifacts = _artifacts(context, root)
    # first: where the teacher's terms forbid it by now, nothing is published
    manifest = _manifest(context, artifacts)
    plan = _plan(context, artifacts)
    for done, (target, local, _) in enumerate(plan):
        context.progress.report(done, len(plan), "files")
        store.put(local, f"{root}/{target}")
    readme = card(manifest)
    cards = {CARD: readme.encode(), f"model/{CARD}": readme.replace("](manifest.json)", "](../manifest.json)").encode()}
    for target, data in cards.items():
        store.write(f"{root}/{target}", data)
    manifest["files"] = [{"path": target, "sha256": file.sha256, "sizeBytes": file.size_bytes} for target, _, file in plan]
    manifest["files"] += [{"path": target, "sha256": sha256(data).hexdigest(), "sizeBytes": len(data)} for target, data in cards.items()]
    store.write(f"{root}/{REPORT}", _json(manifest))
    model_uri, report_uri = store.uri(f"{root}/model"), store.uri(f"{root}/{REPORT}")
    store.write(f"{home}/{LATEST}", _json({"uid": job.uid, "modelURI": model_uri, "reportURI": report_uri}))
    folder = context.new_folder("output")
    (folder / "published.json").write_bytes(_json(manifest))
    withheld = [artifact.name for artifact in artifacts if not artifact.passed]
    told = f"published {model_uri} and {len(artifacts) - len(withheld)} of {len(artifacts)} artifacts"
    result = StageResult(
        message=told + (f"; withheld: {', '.join(withheld)}" if withheld else ""),
        evaluation=_evaluation(context),
        artifacts=artifacts or None,
        model_uri=model_uri,
        report_uri=report_uri,
    )
    return Outcome(folder, result, {"root": root}, {}, {"files": len(plan)})


def _artifacts(context: StageContext, root: str) -> list[Artifact]:
    """The exports as measured; those that met their gates have a URI."""
    found = []
    for export in context.job.spec.exports:
        artifact = judged(context.manifest(stage_name(EXPORT, export.name)), export)
        place = f"{root}/artifacts/{export.name}/{main_file(export)}".rstrip("/")
        found.append(artifact.model_copy(update={"uri": context.output.uri(place)}) if artifact.passed else artifact)
    return found


def _plan(context: StageContext, artifacts: list[Artifact]) -> list[tuple[str, Path, File]]:
    """Path in the published folder, verified local copy and record of each file that is taken over from a stage."""

    def taken(stage: str, prefix: str, target: str) -> Iterator[tuple[str, Path, File]]:
        local = context.fetch(stage, f"{prefix}*")
        for file in context.manifest(stage).select(f"{prefix}*"):
            yield target + file.path.removeprefix(prefix), local / file.path, file

    plan = list(taken(TRAIN, "model/", "model/"))
    for artifact in artifacts:
        if artifact.passed:
            plan += taken(stage_name(EXPORT, artifact.name), "artifact/", f"artifacts/{artifact.name}/")
    return plan


def _evaluation(context: StageContext) -> EvaluationResult:
    measured = context.manifest(EVALUATE).result.evaluation or EvaluationResult()
    return measured.model_copy(update={"passed": True})


def _manifest(context: StageContext, artifacts: list[Artifact]) -> dict[str, Any]:
    """The report without its list of files: job, evaluation, artifacts, lineage."""
    job = context.job
    paths = {export.name: f"artifacts/{export.name}/{main_file(export)}".rstrip("/") for export in job.spec.exports}
    return {
        "job": {"namespace": job.namespace, "name": job.name, "uid": job.uid},
        "trainerImage": job.trainer_image,
        "evaluation": _evaluation(context).wire(),
        "artifacts": [{**artifact.wire(), **({"path": paths[artifact.name]} if artifact.passed else {})} for artifact in artifacts],
        "lineage": _lineage(context),
    }


def _lineage(context: StageContext) -> dict[str, Any]:
    """From whom, from which rows, by which settings and stages."""
    spec = context.job.spec
    traces, curate, train = context.manifest(TRACES), context.manifest(CURATE), context.manifest(TRAIN)
    record = TracesRecord.of(traces)
    told = record.wire()
    student = {**train.lineage.get("student", {}), "origin": spec.student.model_dump(mode="json", by_alias=True, exclude_none=True)}
    if spec.student.model is not None:
        student["uri"] = spec.student.model.uri
        student["origin"]["model"].pop("credentialsSecretRef", None)
    dropped = {reason: count for reason, count in curate.counts.items() if reason not in ("kept", "dropped")}
    if traces.counts.get("dropped"):
        lost = {"cut or too long": traces.counts["dropped"]} if record.dropped is None else record.dropped
        dropped = {**lost, **dropped}
    evaluation, rows = spec.data.evaluation or spec.data.train, spec.data.train
    hashes = {stage.name: context.inputs[stage.name] for stage in planned_stages(spec)[:-1] if stage.name in context.inputs}
    return {
        "teacher": {**record.teacher.wire(), **_terms(context)},
        **{name: told[name] for name in ("usage", "meanEntropy") if name in told},
        "declaredUse": spec.governance.declared_use.wire() if spec.governance else None,
        "signal": told.get("signal"),
        "student": student,
        "data": {
            "train": {**_rows(traces, TRAIN_LINES, rows.uri if rows else None), "rows": curate.counts.get("kept", 0)},
            "heldOut": {**_rows(traces, HELD_OUT_LINES, evaluation.uri if evaluation else None), "rows": traces.counts.get("heldOut", 0)},
            "dropped": dropped,
        },
        "method": spec.method.wire(),
        "training": {**spec.training.wire(), "steps": train.counts.get("steps")},
        "stages": {**({} if TRACES in hashes else {TRACES: traces.hash}), **hashes},
    }


def _terms(context: StageContext) -> dict[str, Any]:
    """What an API's terms say of this job's use today: traces may be older, or made for another use. StageError if they forbid it."""
    return terms_lineage(teacher_info(context)) if context.job.spec.teacher.endpoint else {}


def _rows(traces: Manifest, name: str, uri: str | None) -> dict[str, Any]:
    """The rows as the traces stage wrote them: their digest covers prompts, completions and answers."""
    return {"sha256": next(file.sha256 for file in traces.files if file.path == name), **({"uri": uri} if uri else {})}


def _json(value: Any) -> bytes:
    return json.dumps(value, indent=1, ensure_ascii=False).encode()

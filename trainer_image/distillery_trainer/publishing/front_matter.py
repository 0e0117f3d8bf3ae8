"""The front matter of a model card: what hubs read. Written through huggingface_hub, whose names and checks it follows."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from huggingface_hub import EvalResult, ModelCardData

from distillery_trainer.data.traces import TeacherRecord

from .lineage import Lineage
from .teacher_terms import published_name

_HUB = "https://huggingface.co/"
_HUB_METRICS = {"labelAccuracy": "accuracy", "exactMatch": "exact_match", "perplexity": "perplexity"}


def front_matter(manifest: Mapping[str, Any]) -> str:
    """YAML, without the lines of dashes around it."""
    lineage = Lineage.of(manifest)
    base = hub_name(base_uri(lineage))
    tags = {"distillation", lineage.student.model_type, _teacher_tag(lineage.teacher), *_formats(manifest)}
    data = hub_name(lineage.data.train.uri)
    card = ModelCardData(
        library_name="transformers",
        pipeline_tag="text-generation",
        **_license(lineage),
        base_model=base,
        base_model_relation="finetune" if base else None,
        datasets=[data] if data else None,
        tags=sorted(tag for tag in tags if tag),
        model_name=published_name(manifest),
        eval_results=_results(manifest) or None,
    )
    return card.to_yaml()


def base_uri(lineage: Lineage) -> str | None:
    """Where the student's own weights began: an existing model, or the teacher whose layers it took. None for one made anew."""
    if lineage.student.uri:
        return lineage.student.uri
    return lineage.teacher.uri if "fromTeacher" in lineage.student.origin else None


def hub_name(uri: str | None) -> str | None:
    """org/name of an hf:// URI."""
    return "/".join(uri.removeprefix("hf://").split("@")[0].split("/")[:2]) if uri and uri.startswith("hf://") else None


def license_of(lineage: Lineage) -> str | None:
    """What the card of the student's base names; for a student made anew what the teacher's does, from which it knows all."""
    return (lineage.student.license if lineage.student.uri else lineage.teacher.license) or None


def _license(lineage: Lineage) -> dict[str, Any]:
    """No plain licence says what a teacher's terms oblige to: then it is `other`, by name, with the place of its text."""
    teacher, own = lineage.teacher, license_of(lineage)
    if teacher.obligations:
        name = re.sub(r"[^a-z0-9.]+", "-", "-and-".join(teacher.terms or ["terms of the teacher"]).lower())
        return {"license": "other", "license_name": name, "license_link": teacher.url or "#terms-of-the-teacher"}
    if own == "other":
        base = hub_name(base_uri(lineage) or teacher.uri)
        return {"license": own, "license_name": "as-its-base-model", "license_link": f"{_HUB}{base}" if base else "#where-it-comes-from"}
    return {"license": own}


def _teacher_tag(teacher: TeacherRecord) -> str | None:
    name = teacher.model or hub_name(teacher.uri)
    return f"teacher:{name}" if name else None


def _formats(manifest: Mapping[str, Any]) -> set[str]:
    return {artifact["format"] for artifact in manifest["artifacts"] if artifact.get("passed")}


def _results(manifest: Mapping[str, Any]) -> list[EvalResult]:
    return [
        EvalResult(
            task_type="text-generation",
            dataset_type=Lineage.of(manifest).data.held_out.uri or "held-out",
            dataset_name="held-out rows",
            metric_type=_HUB_METRICS.get(row["metric"], row["metric"]),
            metric_name=row["metric"],
            metric_value=float(row["student"]),
        )
        for row in manifest["evaluation"].get("results", [])
        if "student" in row
    ]

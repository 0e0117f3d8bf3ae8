"""What a model card says of a teacher behind an API: who it was, under which terms it may be used, what that obliges to, what it cost."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from distillery_trainer.data.traces import ObligationRecord, TeacherRecord, UsageRecord

from .lineage import Lineage

_DUTIES = {
    "namePrefix": "a model that is distributed must have a name that begins with `{}`",
    "display": 'show "{}" wherever the model is offered',
    "file": "hand on a copy of {}",
    "flowDown": "bind those who receive the model to {}",
    "notice": "keep the notice: {}",
    "nonCommercial": "no commercial use {}",
    "territory": "not to be used in {}",
    "review": "have a lawyer look at {}",
}


def is_endpoint(teacher: TeacherRecord) -> bool:
    """Whether the teacher was asked through an API."""
    return teacher.kind == "endpoint"


def teacher_name(teacher: TeacherRecord) -> str:
    """The teacher in one phrase."""
    if is_endpoint(teacher):
        return f"`{teacher.model}` at {teacher.base_url}"
    return f"`{teacher.uri or 'recorded traces'}`"


def published_name(manifest: Mapping[str, Any]) -> str:
    """The name on the card: the declared one or the job's, with the prefix that the teacher's licence asks for."""
    lineage = Lineage.of(manifest)
    name = str((lineage.declared_use and lineage.declared_use.student_name) or manifest["job"]["name"])
    for prefix in _values(lineage.teacher, "namePrefix"):
        if not name.lower().startswith(prefix.lower()):
            name = f"{prefix}-{name}"
    return name


def terms_section(teacher: TeacherRecord, usage: UsageRecord | None) -> str:
    """The section on terms and cost; empty for a teacher whose weights were loaded."""
    if not is_endpoint(teacher):
        return ""
    shown = "\n".join(f"**{text}**" for text in _values(teacher, "display"))
    ids = ", ".join(f"`{name}`" for name in teacher.terms) or "none on record"
    clause = f", {teacher.clause}" if teacher.clause else ""
    url = f" ({teacher.url})" if teacher.url else ""
    permission = f" with approval `{teacher.approval}`" if teacher.approval else ""
    terms = f"Its answers were used under the terms {ids}{clause}{url}; the declared use was judged `{teacher.verdict}`{permission}."
    duties = [_duty(duty) for duty in teacher.obligations]
    listed = "These terms oblige whoever uses or passes on this model:\n\n" + "\n".join(f"- {duty}" for duty in duties) if duties else ""
    return "\n\n".join(part for part in ("## Terms of the teacher", shown, terms, listed, _cost(usage)) if part)


def _duty(duty: ObligationRecord) -> str:
    text, value = _DUTIES.get(duty.type, duty.type + " {}"), duty.value or ""
    return str(text.format(value)).strip()


def _values(teacher: TeacherRecord, kind: str) -> Iterator[str]:
    return (duty.value for duty in teacher.obligations if duty.type == kind and duty.value)


def _cost(usage: UsageRecord | None) -> str:
    if usage is None:
        return ""
    there = f"; {usage.cache_hits} more were bought before" if usage.cache_hits else ""
    models = f" The API called the model {', '.join(f'`{name}`' for name in usage.models)}." if usage.models else ""
    return f"The teacher was asked {usage.requests} times for ${usage.cost}{there}.{models}"

"""What each stage is made of, as one hash: two stages of one hash make the same, and the one that was first is reused.

A promise: what a team has paid for is found again under these hashes by every later version.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .digest import digest
from .inputs import TEACHER, TRACES_MADE_BEFORE, inputs, roles_of
from .job import DistillationJobSpec
from .kinds import CURATE, EVALUATE, EXPORT, KINDS, TRACES, TRAIN
from .stages import Stage, planned_stages

_ORIGIN = {"uri", "credentials_secret_ref"}


def _parts(spec: DistillationJobSpec, stage: Stage) -> dict[str, Any]:
    """The part of the spec that decides a stage's output; where bytes come from is left to their digests."""

    def dump(value: Any, leave_out: Any = None) -> Any:
        return value.model_dump(mode="json", by_alias=True, exclude_defaults=True, exclude=leave_out) if value is not None else None

    def rows(value: Any) -> Any:
        return dump(value, _ORIGIN)

    length = {"maxSequenceLength": spec.training.max_sequence_length}
    evaluation = dump(spec.evaluation, {"gates": True, "generation": {"batch_size"}})
    response = spec.method.response()
    parts: dict[str, dict[str, Any]] = {
        TRACES: {
            **length,
            "model": dump(spec.teacher.model, _ORIGIN),
            # which teacher is asked is in the digest of the source: its base URL, model and terms
            **(
                {"endpoint": dump(spec.teacher.endpoint, {"teacher", "shards", "max_failure_ratio", "retries_in_doubt", "tokenizer"})}
                if spec.teacher.endpoint
                else {}
            ),
            "rows": rows(spec.data.train),
            "heldOut": rows(spec.data.evaluation),
            "template": spec.data.chat_template,
            "overflow": spec.data.overflow,
            "evaluation": evaluation,
            "signal": response.signal if response else None,
        },
        CURATE: {**length, "curation": dump(spec.data.curation), "template": spec.data.chat_template, "overflow": spec.data.overflow},
        TRAIN: {
            "student": dump(spec.student, {"model": _ORIGIN}),
            "fromTeacher": spec.student.from_teacher is not None,
            "method": dump(spec.method),
            "training": dump(spec.training, {"checkpoint", "micro_batch_size"}),
            "template": spec.data.chat_template,
        },
        EVALUATE: {"evaluation": evaluation},
        EXPORT: {"format": stage.export.format, "quantization": stage.export.quantization, "evaluation": evaluation}
        if stage.export
        else {},
    }
    return parts[stage.kind]


def stage_hashes(spec: DistillationJobSpec, digests: Mapping[str, str], owner: str) -> dict[str, str]:
    """The hash of every stage after preflight.

    `digests` holds the sha256 of each input that the spec names (teacher, tokenizer, traces, student, train, evaluation); `owner` is the job's
    namespace/name/uid, since each job publishes its own folder. A stage's hash covers its part of the spec without default values,
    the digests of its sources, the hashes of the stages it reads, and its format number. KeyError if a digest is missing.
    """
    hashes: dict[str, str] = {}
    given = {named.role.name for named in inputs(spec)} | ({TEACHER} if spec.teacher.endpoint else set())
    for stage in planned_stages(spec)[1:]:
        kind = KINDS[stage.kind]
        if kind.owned:
            hashes[stage.name] = digest({"format": kind.format, "owner": owner, "of": dict(hashes)})
            continue
        upstream = {name: hashes[name] if name in hashes else digests[TRACES_MADE_BEFORE] for name in stage.reads}
        sources = {role: digests[role] for role in roles_of(spec, kind.sources) if role in given}
        hashes[stage.name] = digest({"format": kind.format, "spec": _parts(spec, stage), "of": upstream, "from": sources})
    return hashes

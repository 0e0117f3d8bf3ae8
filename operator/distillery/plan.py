"""From a spec to what it needs of a cluster: stages, names, sources, and the reasons why it cannot run.

Pure. `decide` compares a plan with what is observed; `manifests` renders its parts.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, NamedTuple

from pydantic import ValidationError

from .api.digest import canonical, digest
from .api.inputs import OUTPUT, Input, inputs, roles_of
from .api.job import FROZEN, DistillationJobSpec
from .api.kinds import KINDS, TRACES
from .api.problems import problems
from .api.scheduling import StageScheduling
from .api.stages import Stage, planned_stages
from .settings import Settings

_NAME = re.compile(r"[a-z]([-a-z0-9]{0,38}[a-z0-9])?")
LONGEST_NAME = 63


@dataclass(frozen=True)
class Plan:
    """What a job needs. With `problems`, `spec` is None and there are no stages."""

    settings: Settings
    spec: DistillationJobSpec | None = None
    stages: tuple[Stage, ...] = ()
    spec_hash: str = ""
    config_map: str = ""
    problems: tuple[str, ...] = ()


def make_plan(name: str, spec: Mapping[str, Any], settings: Settings) -> Plan:
    """The plan of a job of this name; never raises, says what is wrong in `problems`."""
    parsed = _parsed(canonical(spec))
    if parsed.spec is None:
        return Plan(settings, problems=parsed.problems)
    if found := tuple(_problems(name, parsed.spec, settings)):
        return Plan(settings, problems=found)
    return Plan(settings, parsed.spec, parsed.stages, parsed.hash, f"{name}-{parsed.hash[:8]}")


class _Parsed(NamedTuple):
    """What follows from a spec alone."""

    spec: DistillationJobSpec | None
    stages: tuple[Stage, ...] = ()
    hash: str = ""
    problems: tuple[str, ...] = ()


@lru_cache(maxsize=512)
def _parsed(spec: bytes) -> _Parsed:
    """Remembered, since a job is looked at some twenty times per stage and its spec hardly changes; that is a third of a pass."""
    try:
        parsed = DistillationJobSpec.model_validate(json.loads(spec))
    except ValidationError as error:
        return _Parsed(None, problems=tuple(problems(error, "spec")))
    return _Parsed(parsed, planned_stages(parsed), spec_hash(parsed))


def spec_hash(spec: DistillationJobSpec) -> str:
    """sha256 of the frozen fields without what is default, so that a new field with a default changes no job."""
    dump = spec.model_dump(mode="json", by_alias=True, exclude_defaults=True)
    return digest(_without_empty({name: dump.get(name) for name in FROZEN}))


def inputs_of(spec: DistillationJobSpec, stage: Stage) -> tuple[Input, ...]:
    """What one stage touches, and no more: its pod gets the credentials and claims of these alone."""
    touched = {OUTPUT, *roles_of(spec, KINDS[stage.kind].opens)}
    return tuple(named for named in inputs(spec) if named.role.name in touched)


def asks_teacher(spec: DistillationJobSpec, stage: Stage) -> bool:
    """Whether the pods of a stage speak to the gateway about a teacher."""
    return spec.teacher.endpoint is not None and KINDS[stage.kind].asks


def shards_of(spec: DistillationJobSpec, stage: Stage) -> int | None:
    """How many pods share the work of a stage; None for one that is a single pod's."""
    return spec.teacher.endpoint.shards if spec.teacher.endpoint is not None and stage.kind == TRACES else None


def scheduling_of(spec: DistillationJobSpec, stage: Stage) -> StageScheduling:
    """Where the pod of a stage runs."""
    found: StageScheduling = stage.export or getattr(spec.scheduling.stages, stage.kind)
    return found


def scheduling_field(stage: Stage) -> str:
    """The path in the manifest of what `scheduling_of` returns, for messages."""
    return f"spec.exports[{stage.export.name}]" if stage.export else f"spec.scheduling.stages.{stage.kind}"


def child_name(job: str, stage: str, stage_hash: str, run: int) -> str:
    """The name of the batch Job of one run: the same run always has the same name, which makes creating it safe to repeat."""
    tail = f"-{stage_hash[:6]}-{run}"
    head = f"{job}-{stage}"
    room = LONGEST_NAME - len(tail)
    if len(head) > room:
        head = f"{head[: room - 7].rstrip('-')}-{digest(head)[:6]}"
    return head + tail


def _problems(name: str, spec: DistillationJobSpec, settings: Settings) -> Iterator[str]:
    if not _NAME.fullmatch(name):
        yield f'metadata.name: "{name}" must be a DNS label of at most 40 characters that starts with a letter; choose another name'
    if spec.teacher.endpoint is not None and settings.gateway_url is None:
        yield "spec.teacher.endpoint: this installation has no gateway, which holds the keys; ask your platform team, or give teacher.model"
    for named in inputs(spec):
        if named.uri.startswith("file://"):
            yield (
                f'{named.role.field}.uri: "{named.uri}" is a file of one machine, which pods cannot see: '
                "use s3://, pvc:// or (for models and data) hf://; file:// is for `distill run`"
            )


def _without_empty(value: Any) -> Any:
    if isinstance(value, dict):
        kept = {key: _without_empty(child) for key, child in value.items()}
        return {key: child for key, child in kept.items() if child is not None and child != {}}
    return value

"""What a stage says when it ends (its termination message) and while it runs (progress)."""

from __future__ import annotations

import json
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Mapping, Sequence
from typing import Annotated, Self

from pydantic import Field, ValidationError

from .base import Model
from .measure import Artifact, EvaluationResult, MetricValue

#: OUT_OF_BUDGET: everything bought is safe; run again, at no cost of an attempt, when the budget allows.
DONE, USER_MISTAKE, TEMPORARY, OUT_OF_BUDGET, TERMINATED = 0, 64, 75, 76, 143
#: The kubelet keeps this many bytes of a termination message.
LIMIT_BYTES = 4096
#: The most stages that a job may have, preflight aside: eight exports, each with training of its own, four rounds, and room for more kinds.
MOST_STAGES = 40
Hash = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Name = Annotated[str, Field(max_length=63)]
Uri = Annotated[str, Field(max_length=1024)]


class ByPosition(Model):
    """What preflight says of the later stages, in their order in place of their names, and of each hash its 32 bytes in base64: where
    there are many stages, names and hashes as they are would leave no room for the message."""

    hashes: Annotated[list[Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]{43}$")]], Field(max_length=MOST_STAGES)] = Field(default=[])
    reused: Annotated[list[Annotated[int, Field(ge=0, lt=MOST_STAGES)]], Field(max_length=MOST_STAGES)] = Field(default=[])

    @classmethod
    def of(cls, hashes: Mapping[str, str], reused: Sequence[str]) -> Self:
        """`hashes` is in the order of the stages."""
        names = list(hashes)
        short = [urlsafe_b64encode(bytes.fromhex(value)).decode().rstrip("=") for value in hashes.values()]
        return cls(hashes=short, reused=[names.index(name) for name in reused])

    def named(self, stages: Sequence[str]) -> tuple[dict[str, str], list[str]]:
        """The hash of each of these stages, and which are reused; nothing where they are not those that were meant."""
        if len(stages) != len(self.hashes):
            return {}, []
        whole = [urlsafe_b64decode(f"{short}=").hex() for short in self.hashes]
        return dict(zip(stages, whole, strict=True)), [stages[place] for place in self.reused if place < len(stages)]


class StageResult(Model):
    """The termination message: bounded, since it is written by the tenant's pod."""

    message: Annotated[str, Field(max_length=1024)] = Field(
        "", description="One or two sentences for a person; on failure with the remedy."
    )
    reason: Annotated[str, Field(pattern=r"^[A-Za-z][A-Za-z0-9]{0,62}$")] | None = Field(None, description="CamelCase, from `reasons`.")
    metrics: Annotated[list[MetricValue], Field(max_length=32)] = Field(default=[])
    manifest: Uri | None = Field(None, description="URI of the stage's manifest.json.")
    adopted: bool = Field(False, description="The output was already there, made by another job or run.")
    hashes: Annotated[dict[Name, Hash], Field(max_length=MOST_STAGES)] | None = Field(
        None, description="preflight: the hash of every later stage, in their order."
    )
    reused: Annotated[list[Name], Field(max_length=MOST_STAGES)] | None = Field(
        None, description="preflight: stages whose output is already there."
    )
    by_position: ByPosition | None = Field(None, description="preflight: hashes and reused, where they are too long by name.")
    evaluation: EvaluationResult | None = Field(None, description="evaluate and publish.")
    artifact: Artifact | None = Field(None, description="export: what was made, and whether its gates were met.")
    artifacts: Annotated[list[Artifact], Field(max_length=8)] | None = Field(None, description="publish: what was published.")
    model_uri: Uri | None = Field(None, alias="modelURI", description="publish: the folder that from_pretrained loads.")
    report_uri: Uri | None = Field(None, alias="reportURI", description="publish: the manifest with lineage and digests.")

    def trimmed(self) -> bytes:
        """JSON of at most LIMIT_BYTES: metrics go first, then the artifacts' metrics, then the message is cut. Of preflight, whose metrics a
        budget is asked by, names go first, then the end of the message."""
        short = self._by_position()
        candidates = (
            self,
            *((short, short.model_copy(update={"message": self.message[:200]})) if short else ()),
            self.model_copy(update={"metrics": []}),
            self.model_copy(
                update={"metrics": [], "artifacts": [a.model_copy(update={"evaluation": []}) for a in self.artifacts or []] or None}
            ),
            self.model_copy(update={"metrics": [], "artifacts": None, "evaluation": None, "message": self.message[:200]}),
        )
        for candidate in candidates:
            data = json.dumps(candidate.wire(), separators=(",", ":"), ensure_ascii=False).encode()
            if len(data) <= LIMIT_BYTES:
                return data
        raise ValueError(f"a stage result of {len(data)} bytes cannot be trimmed to {LIMIT_BYTES}")

    def _by_position(self) -> StageResult | None:
        if not self.hashes:
            return None
        short = ByPosition.of(self.hashes, self.reused or ())
        return self.model_copy(update={"hashes": None, "reused": None, "by_position": short})

    def named(self, stages: Sequence[str]) -> StageResult:
        """With hashes by name. `stages` are those after preflight, in their order."""
        if self.by_position is None:
            return self
        hashes, reused = self.by_position.named(stages)
        return self.model_copy(update={"hashes": hashes, "reused": reused, "by_position": None})


def parse_result(text: str) -> StageResult | None:
    """The result in a termination message, or None where the text is something else (a log tail, a kernel's word)."""
    try:
        return StageResult.model_validate_json(text)
    except ValidationError:
        return None


class Progress(Model):
    """A report of a running stage, POSTed to the gateway at most every 5 seconds."""

    stage: Name
    hash: Annotated[str, Field(max_length=64)] = ""
    percentage: int = Field(0, ge=0, le=100)
    estimated_remaining_seconds: int | None = Field(None, ge=0, le=31536000)
    done: int | None = Field(None, ge=0)
    total: int | None = Field(None, ge=0)
    unit: Annotated[str, Field(max_length=16)] | None = None
    checkpoint_step: int | None = Field(None, ge=0, description="Last optimizer step that is safe in the store.")
    metrics: Annotated[list[MetricValue], Field(max_length=16)] = Field(default=[])
    message: Annotated[str, Field(max_length=256)] | None = None

"""What a traces stage leaves, as it is written and as every later stage reads it: its rows, and what its manifest says of the teacher.

Files of earlier versions lack newer fields, which therefore have defaults; what a newer version adds to a manifest is handed on as it is.
"""

from __future__ import annotations

from collections.abc import Container
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from pydantic import ConfigDict, Field, ValidationError

from distillery.api import reasons
from distillery.api.base import Model
from distillery.api.kinds import TRACES
from distillery.api.problems import problems
from distillery_trainer.errors import StageError
from distillery_trainer.runner.context import StageContext
from distillery_trainer.runner.manifest import Manifest

if TYPE_CHECKING:
    from .templates import Renderer

TRAIN_LINES, HELD_OUT_LINES = "train.jsonl", "heldout.jsonl"
Read = TypeVar("Read", bound=Model)


class Place(Model):
    """Where the teacher's signal for a row's completion is: `length` tokens from row `offset` on, in the tensors of a file."""

    shard: str
    offset: int
    length: int


class TraceLine(Model):
    """A row, as a line of train.jsonl or heldout.jsonl."""

    model_config = ConfigDict(alias_generator=None, extra="ignore")

    id: str
    prompt: str | list[dict[str, str]]
    completion: str
    #: Of the teacher's tokenizer; None where the completion is text that each student reads with its own.
    completion_ids: list[int] | None = None
    #: The true answer, where the job says how it is found.
    truth: str | None = None
    #: The teacher's own answer to a held-out row.
    teacher_answer: str | None = None
    reasoning: str | None = None
    signal: Place | None = None

    def ids(self, renderer: Renderer) -> list[int]:
        """Token ids of the completion: the teacher's, or where the traces hold text alone, those of whoever reads it."""
        return renderer.completion_ids(self.completion) if self.completion_ids is None else self.completion_ids

    def wire(self) -> dict[str, Any]:
        """The line; it tells of a teacher's answer and reasoning only where there are some."""
        left_out = {name for name in ("teacher_answer", "reasoning") if getattr(self, name) is None}
        return self.model_dump(mode="json", exclude=left_out)


class Record(Model):
    """A part of a lineage. Fields stand in the order in which they are written."""

    model_config = ConfigDict(extra="allow")

    def wire(self) -> dict[str, Any]:
        """As it was written: what was left out stays out, and what is null stays null."""
        return self.model_dump(mode="json", by_alias=True, exclude_unset=True)


class ObligationRecord(Record):
    """What a teacher's terms oblige the publisher of the student to."""

    type: str
    value: str | None = None


class TeacherRecord(Record):
    """Who taught: one whose weights were loaded, or (`kind` endpoint) one behind an API, with its terms and their verdict."""

    kind: str | None = None
    name: str | None = None
    uri: str | None = None
    base_url: str | None = Field(None, alias="baseURL")
    model: str | None = None
    returned_models: list[str] | None = None
    digest: str | None = None
    license: str | None = None
    parameters: int | None = None
    architecture: str | None = None
    model_type: str | None = None
    dtype: str | None = None
    vocab_size: int | None = None
    tokenizer_size: int | None = None
    budget: str | None = None
    terms: list[str] = Field(default=[])
    verdict: str | None = None
    clause: str | None = None
    url: str | None = None
    obligations: list[ObligationRecord] = Field(default=[])
    catalogue: str | None = None
    approval: str | None = None
    prices: str | None = None


class UsageRecord(Record):
    """What the answers of an API were and cost, in all and by shard; `cost` in USD."""

    shard: int | None = None
    answers: int = 0
    requests: int = 0
    cache_hits: int = 0
    cost: str = "0.00"
    models: list[str] = Field(default=[])
    terms: list[str] = Field(default=[])
    shards: list[UsageRecord] = Field(default=[])


class SignalRecord(Record):
    """What is kept of the teacher's distributions: all of it (as logits, or as states and a head), or its likeliest k tokens."""

    kind: Literal["logits", "hiddenState", "topK"]
    dtype: str | None = None
    width: int | None = None
    logit_scale: int | float = 1.0
    logit_softcap: int | float | None = None
    k: int = 0
    rows: int | None = None
    without: dict[str, int] = Field(default={})

    @property
    def whole(self) -> bool:
        """Whether every token's distribution is known in full."""
        return self.kind != "topK"


class TracesRecord(Record):
    """The lineage of a traces stage. `answer` is data.evaluation.answer as it was (measure.metrics.answer_of reads it)."""

    teacher: TeacherRecord = TeacherRecord()
    usage: UsageRecord | None = None
    #: Rows left out, by reason.
    dropped: dict[str, int] | None = None
    signal: SignalRecord | None = None
    answer: dict[str, Any] | None = None
    #: Nats per completion token.
    mean_entropy: int | float | None = None
    end_of_turn: list[int] | None = None
    format: str | None = None
    chat_template: str | None = None

    @staticmethod
    def of(manifest: Manifest) -> TracesRecord:
        """StageError BadInput where no traces stage wrote it."""
        return _read(TracesRecord, manifest.lineage, "lineage")


@dataclass(frozen=True)
class Traces:
    """Finished traces: what their manifest says, and the files that were asked for, on this machine."""

    record: TracesRecord
    folder: Path

    @property
    def teacher(self) -> Path:
        """What is kept of the teacher: configuration, tokenizer and template, as far as they are known."""
        return self.folder / "teacher"

    def train(self, kept: Container[str] | None = None) -> list[TraceLine]:
        """The training rows; only those that `kept` names, where it is given."""
        return [line for line in self._lines(TRAIN_LINES) if kept is None or line.id in kept]

    def held_out(self, limit: int | None = None) -> list[TraceLine]:
        """The first `limit` held-out rows."""
        return self._lines(HELD_OUT_LINES)[:limit]

    def _lines(self, name: str) -> list[TraceLine]:
        with (self.folder / name).open() as file:
            return [_read(TraceLine, line, f"{name} line {number}") for number, line in enumerate(file, 1)]


def open_traces(context: StageContext, *names: str) -> Traces:
    """The job's traces, with those of their files that match `names`. Missing if they are not there (any more)."""
    return Traces(TracesRecord.of(context.manifest(TRACES)), context.fetch(TRACES, *names))


def _read(model: type[Read], given: str | dict[str, Any], what: str) -> Read:
    try:
        return model.model_validate_json(given) if isinstance(given, str) else model.model_validate(given)
    except ValidationError as error:
        text = f"{what} is none that a traces stage wrote ({problems(error)[0]}): name other traces, or trace again"
        raise StageError(reasons.BAD_INPUT, f"spec.teacher.traces: {text}") from error

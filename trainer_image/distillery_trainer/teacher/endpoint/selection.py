"""Which rows there are and which shard's part of them this pod asks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from distillery.api import reasons
from distillery.api.data import Rows
from distillery.api.teacher import TeacherEndpoint
from distillery_trainer.data.end_words import without_end_words
from distillery_trainer.data.examples import Dropped, Example, fitting, hold_out, render
from distillery_trainer.data.rows import Row, read_rows
from distillery_trainer.data.templates import Renderer, template_of
from distillery_trainer.errors import StageError
from distillery_trainer.runner.context import StageContext

if TYPE_CHECKING:
    from distillery_trainer.models.files import ModelFiles


@dataclass(frozen=True)
class Selection:
    """Training and held-out rows. `renderer` is of endpoint.tokenizer; without one rows have no token ids until a student reads them."""

    train: list[Example]
    held: list[Example]
    dropped: Dropped
    renderer: Renderer | None
    tokenizer: ModelFiles | None


@dataclass(frozen=True)
class Shard:
    """Number `index` of `count`."""

    index: int
    count: int

    @staticmethod
    def of(endpoint: TeacherEndpoint, environment: Mapping[str, str]) -> Shard:
        """The index is the pod's in its Indexed Job; a process that is none does all. DISTILLERY_SHARD and DISTILLERY_SHARDS override."""
        index = environment.get("DISTILLERY_SHARD", environment.get("JOB_COMPLETION_INDEX"))
        if index is None:
            return Shard(0, 1)
        count = int(environment.get("DISTILLERY_SHARDS", endpoint.shards))
        if int(index) >= count:
            text = f"this pod is number {index}, but there are {count} shards"
            raise StageError(reasons.BAD_INPUT, f"spec.teacher.endpoint.shards: {text}: a Job of the stage needs as many completions")
        return Shard(int(index), count)


def select(context: StageContext) -> Selection:
    """Read data.train and data.evaluation. Rows too long for training are left out before they are paid for, where a tokenizer can tell."""
    spec = context.job.spec
    endpoint, rows = spec.teacher.endpoint, spec.data.train
    if endpoint is None or rows is None:
        raise StageError(reasons.INVALID_SPEC, "spec: teacher.endpoint needs data.train; name the rows")
    files, renderer, dropped = None, None, Dropped()
    if endpoint.tokenizer is not None:
        # torch comes with it; without a tokenizer a pod that asks stays small
        from distillery_trainer.models.files import fetch_tokenizer, read_tokenizer

        files = fetch_tokenizer(endpoint.tokenizer.uri, "tokenizer", context.work)
        tokenizer = read_tokenizer(files)
        renderer = Renderer(tokenizer, template_of(tokenizer))

    def usable(given: Rows, split: str) -> list[Example]:
        found = read_rows(given, "train" if split == "train" else "evaluation", context.work)
        if renderer is None:
            return [_unrendered(row) for row in found]
        return fitting(render(found, renderer), split, spec.training.max_sequence_length, spec.data.overflow, dropped)

    train = usable(rows, "train")
    train, held = (train, usable(spec.data.evaluation, "heldout")) if spec.data.evaluation else hold_out(train, dropped)
    for name, left in (("training", train), ("held-out", held)):
        if not left:
            raise StageError(reasons.ROWS_INVALID, f"no {name} row is left: {dropped.told() or 'there is none'}")
    return Selection(train, held[: spec.evaluation.max_rows], dropped, renderer, files)


def _unrendered(row: Row) -> Example:
    return Example(row, [], [], without_end_words(row.completion or ""))

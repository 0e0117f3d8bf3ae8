"""Which rows teach and which test: read, rendered, fitted and held out, in the one way that preflight, traces and an API's pods share."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from distillery.api import reasons
from distillery.api.job import DistillationJobSpec
from distillery_trainer.errors import StageError

from .end_words import without_end_words
from .examples import Dropped, Example, fitting, hold_out, render
from .rows import Row, read_rows
from .templates import Renderer


@dataclass(frozen=True)
class Given:
    """The rows of data.train and data.evaluation; `held` is None where the job names none."""

    train: list[Row]
    held: list[Row] | None


@dataclass(frozen=True)
class Selection:
    """Training and held-out rows. Without `renderer` they have no token ids until a student reads them."""

    train: list[Example]
    held: list[Example]
    dropped: Dropped
    renderer: Renderer | None


def read(spec: DistillationJobSpec, work: Path) -> Given:
    """Apart from `select`, so that a bad row is told before a teacher is fetched. StageError RowsInvalid."""
    data = spec.data
    if data.train is None:
        raise StageError(reasons.INVALID_SPEC, "spec: this teacher needs data.train; name the rows, or use teacher.traces")
    train = read_rows(data.train, "train", work)
    return Given(train, read_rows(data.evaluation, "evaluation", work) if data.evaluation else None)


def select(spec: DistillationJobSpec, given: Given, renderer: Renderer | None, limit: int) -> Selection:
    """The rows that are used. Those of more than `limit` tokens are left out where a tokenizer can tell. StageError where none is left."""
    dropped = Dropped()

    def usable(rows: list[Row], split: str) -> list[Example]:
        if renderer is None:
            return [Example(row, [], [], without_end_words(row.completion or "")) for row in rows]
        return fitting(render(rows, renderer), split, limit, spec.data.overflow, dropped)

    train = usable(given.train, "train")
    train, held = hold_out(train, dropped) if given.held is None else (train, usable(given.held, "heldout"))
    held = held[: spec.evaluation.max_rows]
    require_rows(train, held, dropped)
    return Selection(train, held, dropped, renderer)


def require_rows(train: Sequence[Example], held: Sequence[Example], dropped: Dropped) -> None:
    """StageError RowsInvalid where one of the two is empty."""
    for name, left in (("training", train), ("held-out", held)):
        if not left:
            raise StageError(reasons.ROWS_INVALID, f"no {name} row is left: {dropped.told() or 'there is none'}")

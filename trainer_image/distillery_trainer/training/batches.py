"""Rows as token ids, the order in which they are seen, and the tensors of one micro batch.

Nothing is stored between steps: what step s sees is a function of (seed, s), so a resumed run sees the same.
"""

from __future__ import annotations

import math
import random
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache

import torch

from distillery.api import reasons
from distillery_trainer.data.traces import Place, TraceLine
from distillery_trainer.errors import StageError
from distillery_trainer.models.positions import position_limit
from distillery_trainer.student.make import Student


@dataclass(frozen=True)
class TrainingRow:
    """One row as the student reads it; `signal` says where the teacher's distribution over `completion` is."""

    id: str
    prompt: tuple[int, ...]
    completion: tuple[int, ...]
    signal: Place | None

    @property
    def tokens(self) -> int:
        """Length of prompt and completion."""
        return len(self.prompt) + len(self.completion)


def tokenized(lines: Iterable[TraceLine], student: Student) -> list[TrainingRow]:
    """Lines of train.jsonl or heldout.jsonl for this student: its own prompt, the traced completion (read anew where that is text).

    Done once, before the first step.
    """
    rows = []
    vocab, limit = int(student.head.weight.shape[0]), position_limit(student.model.config)
    for line in lines:
        completion = tuple(line.ids(student.renderer))
        row = TrainingRow(line.id, tuple(student.renderer.prompt_ids(line.prompt)), completion, line.signal)
        if row.tokens > limit:
            text = f"row {row.id!r} has {row.tokens} tokens, but the student sees {limit}: lower training.maxSequenceLength to {limit}"
            raise StageError(reasons.DOES_NOT_FIT, f"{student.field}: {text}, so that such rows are dropped, or use a longer student")
        if max((*row.prompt, *row.completion)) >= vocab:
            text = f"row {row.id!r} has token id {max((*row.prompt, *row.completion))}, but the student's embedding has {vocab} rows"
            raise StageError(reasons.TOKENIZER_MISMATCH, f"{student.field}: {text}; use a student whose vocabulary holds the teacher's")
        rows.append(row)
    return rows


def planned_steps(rows: int, batch: int, max_steps: int | None, epochs: int) -> int:
    """Optimizer steps of a run: maxSteps, or as many as show each row `epochs` times (the last may be short)."""
    return max_steps if max_steps is not None else math.ceil(rows * epochs / batch)


def batch_at(step: int, rows: int, batch: int, seed: int, last: int | None = None) -> list[int]:
    """Indices of the rows of a step: a slice of the endless sequence of epochs, each its own permutation, cut off at `last` rows."""
    start, stop = step * batch, (step + 1) * batch if last is None else min((step + 1) * batch, last)
    orders = {epoch: epoch_order(rows, seed, epoch) for epoch in range(start // rows, (stop - 1) // rows + 1)}
    return [orders[position // rows][position % rows] for position in range(start, stop)]


@lru_cache(maxsize=2)
def epoch_order(rows: int, seed: int, epoch: int) -> tuple[int, ...]:
    """The permutation of one epoch."""
    order = list(range(rows))
    random.Random(f"{seed}/{epoch}").shuffle(order)
    return tuple(order)


def micro_batches(rows: Sequence[TrainingRow], size: int) -> Iterator[list[TrainingRow]]:
    """Parts of a global batch, rows of like length together (their losses add up to the same sum in any partition)."""
    ordered = sorted(rows, key=lambda row: (row.tokens, row.id))
    return (ordered[start : start + size] for start in range(0, len(ordered), size))


@dataclass(frozen=True)
class Tensors:
    """A micro batch: `ids` [rows, positions] padded on the right; `positions` [tokens] index the flattened [rows * positions] states
    that predict `targets` [tokens], row by row. Which tokens count follows from lengths, never from the id of a pad token.
    """

    ids: torch.Tensor
    positions: torch.Tensor
    targets: torch.Tensor


def collate(rows: Sequence[TrainingRow], device: torch.device) -> Tensors:
    """Tensors of these rows. The last token of a row is a target only, so it is not fed in."""
    width = max(row.tokens for row in rows) - 1
    ids = [[*row.prompt, *row.completion][:-1] + [0] * (width - row.tokens + 1) for row in rows]
    positions = [line * width + at for line, row in enumerate(rows) for at in range(len(row.prompt) - 1, row.tokens - 1)]
    targets = [token for row in rows for token in row.completion]
    return Tensors(*(torch.tensor(values, dtype=torch.long).to(device) for values in (ids, positions, targets)))

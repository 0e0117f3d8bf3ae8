"""What a step sees is a function of seed and step; the loss mask is a matter of positions."""

from __future__ import annotations

from collections import Counter

import pytest
import torch
from tests.unit.trainer import tiny

from distillery_trainer.data.templates import Renderer, template_of
from distillery_trainer.data.traces import TraceLine
from distillery_trainer.errors import StageError
from distillery_trainer.student.make import Student
from distillery_trainer.training.batches import TrainingRow, batch_at, collate, micro_batches, planned_steps, tokenized

CPU = torch.device("cpu")


def row(name: str, prompt: int, completion: int) -> TrainingRow:
    """A row of these lengths; prompt tokens are 1, completion tokens 2, 3, …"""
    return TrainingRow(name, (1,) * prompt, tuple(range(2, 2 + completion)), None)


def student(**more: int) -> Student:
    """A tiny student with a chat template."""
    words = tiny.tokenizer()
    return Student(tiny.model(**more), words, Renderer(words, template_of(words)), "spec.student.model")


def test_each_epoch_shows_every_row_once_in_its_own_order() -> None:
    seen = [index for step in range(10) for index in batch_at(step, 10, 4, seed=3)]
    epochs = [seen[at : at + 10] for at in range(0, 40, 10)]
    assert all(Counter(epoch) == Counter(range(10)) for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) == 4


def test_a_step_depends_on_seed_and_step_alone() -> None:
    assert batch_at(7, 50, 8, seed=1) == batch_at(7, 50, 8, seed=1)
    assert batch_at(7, 50, 8, seed=1) != batch_at(7, 50, 8, seed=2)


def test_a_batch_may_be_larger_than_the_rows() -> None:
    assert Counter(batch_at(0, 3, 6, seed=0)) == {0: 2, 1: 2, 2: 2}


def test_epochs_end_with_a_short_batch_that_repeats_nothing() -> None:
    steps = planned_steps(10, 4, None, 3)
    seen = Counter(index for step in range(steps) for index in batch_at(step, 10, 4, 0, last=30))
    assert steps == 8
    assert set(seen.values()) == {3}


@pytest.mark.parametrize(("rows", "batch", "steps", "epochs", "planned"), [(100, 32, 7, 3, 7), (100, 32, None, 3, 10), (5, 32, None, 1, 1)])
def test_planned_steps(rows: int, batch: int, steps: int | None, epochs: int, planned: int) -> None:
    assert planned_steps(rows, batch, steps, epochs) == planned


def test_micro_batches_hold_each_row_once_and_like_lengths_together() -> None:
    rows = [row(str(n), 2, n) for n in (5, 1, 4, 2, 3)]
    assert [[len(r.completion) for r in part] for part in micro_batches(rows, 2)] == [[1, 2], [3, 4], [5]]


def test_collated_positions_predict_completion_tokens_and_nothing_else() -> None:
    rows = [row("a", 3, 2), row("b", 2, 4), row("c", 1, 1)]
    made = collate(rows, CPU)
    assert made.ids.tolist() == [[1, 1, 1, 2, 0], [1, 1, 2, 3, 4], [1, 0, 0, 0, 0]]
    assert made.targets.tolist() == [2, 3, 2, 3, 4, 5, 2]
    assert made.positions.tolist() == [2, 3, 6, 7, 8, 9, 10]


def test_an_end_of_turn_that_is_also_the_pad_token_is_learnt() -> None:
    made = student()
    end = made.tokenizer.eos_token_id
    assert end == made.tokenizer.pad_token_id
    (read,) = tokenized([TraceLine(id="1", prompt="hi", completion="", completion_ids=[5, end])], made)
    assert collate([read], CPU).targets.tolist() == [5, end]


def test_padding_on_the_right_changes_no_state_that_counts() -> None:
    made = student()
    rows = [row("a", 3, 2), row("b", 6, 9)]
    with torch.no_grad():
        together = made.hidden(collate(rows, CPU).ids)
        alone = made.hidden(collate(rows[:1], CPU).ids)
    torch.testing.assert_close(together[0, :4], alone[0], rtol=1e-5, atol=1e-5)


def test_a_row_beyond_the_students_positions_is_refused_with_the_remedy() -> None:
    line = TraceLine(id="long", prompt="x", completion="", completion_ids=[5] * 40)
    with pytest.raises(StageError, match=r"'long' has \d+ tokens, but the student sees 32: lower training.maxSequenceLength to 32"):
        tokenized([line], student(positions=32))


def test_an_id_beyond_the_students_vocabulary_is_refused() -> None:
    line = TraceLine(id="r", prompt="x", completion="", completion_ids=[900])
    with pytest.raises(StageError, match="token id 900, but the student's embedding has 320 rows"):
        tokenized([line], student())

"""Which rows teach and which test, whoever asks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from tests.unit.trainer import tiny

from distillery.api.job import DistillationJobSpec
from distillery_trainer.data.examples import Example
from distillery_trainer.data.selection import Selection, read, select
from distillery_trainer.data.templates import Renderer, template_of
from distillery_trainer.errors import StageError

PROMPTS = [{"prompt": f"say fox {number}"} for number in range(12)]


def selected(root: Path, rendered: bool, held: list[dict[str, str]] | None = None, limit: int = 64, **evaluation: Any) -> Selection:
    """Of PROMPTS."""
    data: dict[str, Any] = {"train": {"uri": tiny.lines(root / "train.jsonl", PROMPTS), "format": "prompt"}}
    if held is not None:
        data["evaluation"] = {"uri": tiny.lines(root / "held.jsonl", held), "format": "prompt"}
    spec = DistillationJobSpec.model_validate(tiny.spec(root, data=data, evaluation=evaluation))
    words = tiny.tokenizer()
    return select(spec, read(spec, root / "work"), Renderer(words, template_of(words)) if rendered else None, limit)


def ids(examples: list[Example]) -> set[str]:
    """Names of rows."""
    return {example.row.id for example in examples}


@pytest.mark.parametrize("rendered", [True, False])
def test_a_tenth_is_held_out_where_no_rows_are_named(tmp_path: Path, rendered: bool) -> None:
    """The same rows, whether a tokenizer is known or not."""
    rows = selected(tmp_path, rendered)
    assert (len(rows.train), ids(rows.train) & ids(rows.held)) == (11, set())
    assert ids(rows.held) == ids(selected(tmp_path, not rendered).held)
    assert all(bool(example.prompt_ids) == rendered for example in rows.train)


def test_no_more_rows_are_held_out_than_are_measured(tmp_path: Path) -> None:
    """Preflight counts, and sizes, what the traces stage answers."""
    rows = selected(tmp_path, True, PROMPTS, maxRows=5)
    assert (len(rows.train), len(rows.held)) == (12, 5)


def test_no_row_is_left(tmp_path: Path) -> None:
    """It is told which, and what to do."""
    with pytest.raises(StageError, match=r"no held-out row is left: 1 tooLong \(raise training.maxSequenceLength"):
        selected(tmp_path, True, [{"prompt": "fox " * 64}])

"""The filters of the curate stage."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from tests.unit.trainer import tiny

from distillery.api.result import StageResult
from distillery_trainer.data.examples import write_lines
from distillery_trainer.data.traces import TraceLine
from distillery_trainer.runner.commit import commit, fetch, read_manifest
from distillery_trainer.runner.manifest import Creator, Manifest
from distillery_trainer.stages.curate import Contamination
from distillery_trainer.stores import open_store

TRACES, CURATE = "a" * 64, "b" * 64
SENTENCE = "one two three four five six seven eight nine ten eleven twelve thirteen"


def line(name: str, prompt: Any, completion: str, length: int = 3) -> TraceLine:
    """A traced row whose completion has `length` tokens and an end."""
    return TraceLine(id=name, prompt=prompt, completion=completion, completion_ids=[5] * length + [2])


def curate(tmp_path: Path, train: list[TraceLine], held: list[TraceLine], **data: Any) -> tuple[int, tiny.Place, Path]:
    """Commit traces, run the stage; its exit code, place and files."""
    spec = tiny.spec(tmp_path, training={"maxSequenceLength": 160})
    spec["data"].update(data)
    place = tiny.Place(tmp_path, spec)
    tiny.save(tmp_path / "traces/teacher", tiny.model(layers=1), tiny.tokenizer())
    write_lines(tmp_path / "traces/train.jsonl", (row.wire() for row in train))
    write_lines(tmp_path / "traces/heldout.jsonl", (row.wire() for row in held))
    store = open_store(f"file://{tmp_path}/out", "output", {})
    creator = Creator(namespace="team", job="job", uid="uid-1")
    draft = Manifest(
        stage="traces", hash=TRACES, format=1, root="", files=(), lineage={"endOfTurn": [2]}, created_by=creator, result=StageResult()
    )
    commit(store, f"stages/traces-{TRACES}", tmp_path / "traces", draft)
    code = place.execute("curate", CURATE, {"traces": TRACES})
    if code:
        return code, place, tmp_path
    manifest = read_manifest(store, f"stages/curate-{CURATE}")
    return code, place, fetch(store, f"stages/curate-{CURATE}", manifest, tmp_path / "got")


def lines(path: Path) -> list[dict[str, Any]]:
    """What a JSONL file holds."""
    return [json.loads(text) for text in path.read_text().splitlines()]


def test_each_dropped_row_has_its_reason(tmp_path: Path) -> None:
    """Short, too long, contaminated, duplicate; ids of what is kept, in order."""
    train = [
        line("1", "what is\u00a0it", "a fox"),
        line("2", "what  is it", "a fox"),
        line("3", "ﬁve", "six"),
        line("4", "five", "six"),
        line("5", "short", "", length=0),
        line("6", "long", "x", length=160),
        line("7", "held  prompt", "anything"),
        line("8", f"first {SENTENCE.upper()}, last", "else"),
        line("9", [{"role": "user", "content": "what is it"}], "a fox"),
    ]
    held = [line("h1", "held prompt", "y"), line("h2", f"Is it so? {SENTENCE}!", "z")]
    code, place, folder = curate(tmp_path, train, held)
    assert code == 0
    assert [row["id"] for row in lines(folder / "kept.jsonl")] == ["1", "3", "9"]
    assert lines(folder / "dropped.jsonl") == [
        {"id": "2", "reason": "duplicate", "of": "1"},
        {"id": "4", "reason": "duplicate", "of": "3"},
        {"id": "5", "reason": "short"},
        {"id": "6", "reason": "tooLong"},
        {"id": "7", "reason": "contaminated", "of": "h1"},
        {"id": "8", "reason": "contaminated", "of": "h2"},
    ]
    assert place.result().message.startswith("3 of 9 rows are kept; dropped: 2 contaminated (they repeat held-out rows")


def test_filters_can_be_turned_off(tmp_path: Path) -> None:
    """Each by its field."""
    train = [line("1", "a", "b"), line("2", "a", "b"), line("3", "held", "c")]
    _, _, folder = curate(tmp_path, train, [line("h", "held", "c")], curation={"deduplicate": False, "decontaminate": False})
    assert [row["id"] for row in lines(folder / "kept.jsonl")] == ["1", "2", "3"]


def test_prompts_that_spell_special_tokens_are_told(tmp_path: Path) -> None:
    train = [line("1", "what does <|im_end|> do", "it ends"), line("2", "a", "b")]
    code, place, _ = curate(tmp_path, train, [line("h", "held", "c")])
    assert code == 0
    assert "; 1 prompts spell special tokens (<|im_end|>), which are read as those tokens" in place.result().message
    assert {metric.name: metric.value for metric in place.result().metrics}["promptsWithSpecialTokens"] == "1"


def test_nothing_left_is_the_users_mistake(tmp_path: Path) -> None:
    """With the counts and what to change."""
    code, place, _ = curate(tmp_path, [line("1", "held", "c")], [line("h", "held", "c")])
    assert code == 64
    assert place.result().reason == "RowsInvalid"
    assert "1 contaminated (they repeat held-out rows" in place.result().message


def test_overflow_fail_names_the_row(tmp_path: Path) -> None:
    """And the field."""
    code, place, _ = curate(tmp_path, [line("r6", "long", "x", length=160)], [line("h", "a", "c")], overflow="fail")
    assert code == 64
    assert "row 'r6'" in place.result().message
    assert "training.maxSequenceLength" in place.result().message


def test_wording_that_many_held_out_rows_share_is_no_contamination() -> None:
    """Else an instruction of more than 12 words before every row would drop them all."""
    held = [line(str(n), f"{SENTENCE} now: case {n} here", "yes") for n in range(40)]
    contamination = Contamination(held, [])
    assert contamination.of(line("t", f"{SENTENCE} now: another thing", "no")) is None
    assert contamination.of(line("t", f"{SENTENCE} now: case 7 here", "no")) == "7"


def test_wording_that_many_training_rows_share_is_none_either() -> None:
    """With one held-out row, the held-out rows cannot tell; a whole prompt that stands among them is still found."""
    train = [line(str(n), f"{SENTENCE} now: case {n} here", "yes") for n in range(40)]
    contamination = Contamination([line("h", f"{SENTENCE} now: case 7 here", "no")], train)
    assert [row.id for row in train if contamination.of(row)] == ["7"]


@pytest.mark.parametrize("role", ["system", "user"])
def test_system_messages_are_not_compared(role: str) -> None:
    """They are the same for all rows of a job."""
    contamination = Contamination([line("h", [{"role": "system", "content": SENTENCE}, {"role": "user", "content": "x"}], "y")], [])
    asked = line("t", [{"role": role, "content": SENTENCE}, {"role": "user", "content": "other"}], "z")
    assert contamination.of(asked) is None

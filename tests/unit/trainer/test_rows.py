"""Reading rows: what is accepted, and how what is not is told."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from distillery.api.data import EvaluationRows, Rows
from distillery_trainer.errors import StageError
from distillery_trainer.rows import Row, read_rows

USER, SYSTEM = {"role": "user", "content": "hi"}, {"role": "system", "content": "be kind"}
ANSWER = {"role": "assistant", "content": "hello"}


def read(tmp_path: Path, content: bytes | str | list[Any], name: str = "rows.jsonl", **spec: Any) -> list[Row]:
    """Rows of one file."""
    if isinstance(content, list):
        content = "".join(json.dumps(line) + "\n" for line in content)
    (tmp_path / name).write_bytes(content.encode() if isinstance(content, str) else content)
    return read_rows(Rows.model_validate({"uri": f"file://{tmp_path}/{name}", **spec}), "train", tmp_path / "work", {})


def refused(tmp_path: Path, content: bytes | str | list[Any], **spec: Any) -> str:
    """The message of the refusal."""
    with pytest.raises(StageError) as caught:
        read(tmp_path, content, **spec)
    assert caught.value.code == 64
    assert caught.value.reason == "RowsInvalid"
    return caught.value.message


@pytest.mark.parametrize(
    ("format_", "row", "prompt", "completion"),
    [
        ("prompt", {"prompt": "2+2"}, "2+2", None),
        ("prompt", {"prompt": [USER]}, [USER], None),
        ("promptCompletion", {"prompt": "2+2", "completion": "4"}, "2+2", "4"),
        ("promptCompletion", {"prompt": [SYSTEM, USER], "completion": [ANSWER]}, [SYSTEM, USER], "hello"),
        ("promptCompletion", {"prompt": "x", "completion": ""}, "x", ""),
        ("messages", {"messages": [USER, ANSWER]}, [USER], "hello"),
        ("messages", {"messages": [USER, {"role": "assistant", "content": [{"type": "text", "text": "hello"}]}]}, [USER], "hello"),
    ],
)
def test_formats(tmp_path: Path, format_: str, row: dict[str, Any], prompt: Any, completion: str | None) -> None:
    """Each format gives prompt and completion; the line number is the id."""
    assert read(tmp_path, [row], format=format_) == [Row("1", prompt, completion, None, "rows.jsonl line 1")]


def test_names_of_columns(tmp_path: Path) -> None:
    """`fields` says where things stand."""
    rows = read(tmp_path, [{"q": "a", "nr": 7}], fields={"prompt": "q", "id": "nr"})
    assert [(row.id, row.prompt) for row in rows] == [("7", "a")]


def test_system_prompt_goes_where_none_is(tmp_path: Path) -> None:
    """A string becomes a dialogue; a dialogue with a system message keeps its own."""
    rows = read(tmp_path, [{"prompt": "hi"}, {"prompt": [{"role": "system", "content": "own"}, USER]}], system_prompt="be kind")
    assert rows[0].prompt == [SYSTEM, USER]
    assert rows[1].prompt == [{"role": "system", "content": "own"}, USER]


def test_equal_ids_get_their_line_number(tmp_path: Path) -> None:
    """Ids name rows in every later file."""
    rows = read(tmp_path, [{"id": "a", "prompt": "x"}, {"id": "a", "prompt": "y"}, {"id": "a#2", "prompt": "z"}])
    assert [row.id for row in rows] == ["a", "a#2", "a#2#3"]


def test_byte_order_mark_and_blank_lines_are_skipped(tmp_path: Path) -> None:
    """Line numbers stay those of the file."""
    rows = read(tmp_path, b'\xef\xbb\xbf{"prompt": "x"}\n\n{"prompt": "\xc3\xa9"}\n')
    assert [(row.where, row.prompt) for row in rows] == [("rows.jsonl line 1", "x"), ("rows.jsonl line 3", "é")]


@pytest.mark.parametrize(
    ("content", "spec", "told"),
    [
        ('{"prompt": "x"}\n{"prompt": \n', {}, "line 2: is not JSON"),
        ("[\n", {}, "one JSON object on each line, not one array"),
        ("[1]\n", {}, "line 1: is a JSON list, not an object"),
        (b'{"prompt": "\xff"}\n', {}, "line 1: byte 13 is not UTF-8"),
        ('{"prompt": "\\ud800"}\n', {}, "half of a surrogate pair"),
        ("", {}, "rows.jsonl: is empty"),
        ('{"question": "x"}\n', {}, "field 'prompt' is missing (the row has 'question'); add it, or name the column under fields"),
        ('{"prompt": " "}\n', {}, "field 'prompt' is empty"),
        ('{"prompt": 3}\n', {}, "must be a non-empty list of {role, content}, not int"),
        ('{"prompt": [{"role": "human", "content": "x"}]}\n', {}, "prompt[0].role is 'human'; it must be one of system"),
        ('{"prompt": [{"role": "user", "content": 1}]}\n', {}, "prompt[0].content must be text, not int"),
        ('{"prompt": [{"role": "user", "content": "x", "tool_calls": [1]}]}\n', {}, "has 'tool_calls', which would be lost"),
        ('{"prompt": [{"role": "assistant", "content": "x"}]}\n', {}, "ends with an assistant message"),
        ('{"messages": [{"role": "user", "content": "x"}]}\n', {"format": "messages"}, "must hold a prompt and end with the assistant's"),
        ('{"prompt": "x"}\n', {"format": "promptCompletion"}, "field 'completion' is missing"),
        ('{"prompt": "x", "completion": [1, 2]}\n', {"format": "promptCompletion"}, "completion[0] must be an object"),
    ],
)
def test_bad_rows_name_file_line_field_and_remedy(tmp_path: Path, content: str | bytes, spec: dict[str, Any], told: str) -> None:
    """Nobody has to search."""
    message = refused(tmp_path, content, **spec)
    assert told in message
    assert message.startswith("spec.data.train: ")


def test_first_five_bad_lines_are_told_at_once(tmp_path: Path) -> None:
    """With how many more there are."""
    message = refused(tmp_path, [{"p": "x"}] * 9 + [{"prompt": "fine"}])
    assert "9 bad rows" in message
    assert "line 5" in message
    assert "line 6" not in message
    assert "and 4 more" in message


def test_parquet_is_read_as_jsonl_is(tmp_path: Path) -> None:
    """Nested messages and absent columns too."""
    table = pa.table({"messages": [[USER, ANSWER], [SYSTEM, USER, ANSWER]], "id": ["a", None]})
    pq.write_table(table, tmp_path / "rows.parquet")
    rows = read_rows(Rows.model_validate({"uri": f"file://{tmp_path}/rows.parquet", "format": "messages"}), "train", tmp_path / "w", {})
    assert [(row.id, row.prompt, row.completion) for row in rows] == [("a", [USER], "hello"), ("2", [SYSTEM, USER], "hello")]


def test_damaged_parquet_is_told(tmp_path: Path) -> None:
    """Not a traceback of the library."""
    (tmp_path / "rows.parquet").write_bytes(b"PAR1 nothing")
    with pytest.raises(StageError, match=r"rows\.parquet: is not a readable parquet file"):
        read_rows(Rows.model_validate({"uri": f"file://{tmp_path}/rows.parquet"}), "train", tmp_path / "w", {})


def test_folder_with_splits(tmp_path: Path) -> None:
    """Files are taken in the order of their names, those of the split only; ids carry the file's name."""
    for name in ("train-0.jsonl", "train-1.jsonl", "test-0.jsonl", "trainer.jsonl", "notes.txt"):
        (tmp_path / "data").mkdir(exist_ok=True)
        (tmp_path / "data" / name).write_text('{"prompt": "x"}\n')
    rows = Rows.model_validate({"uri": f"file://{tmp_path}/data", "split": "train"})
    assert [row.id for row in read_rows(rows, "train", tmp_path / "w", {})] == ["train-0.jsonl:1", "train-1.jsonl:1"]
    with pytest.raises(StageError, match="whose name holds the word 'dev' among notes"):
        read_rows(rows.model_copy(update={"split": "dev"}), "train", tmp_path / "w", {})
    with pytest.raises(StageError, match="there is no such file or folder"):
        read_rows(Rows.model_validate({"uri": f"file://{tmp_path}/none"}), "train", tmp_path / "w", {})


def test_truth_is_required_and_becomes_text(tmp_path: Path) -> None:
    """Of held-out rows with `answer`."""
    (tmp_path / "held.jsonl").write_text('{"prompt": "2+2", "answer": 4}\n{"prompt": "x"}\n')
    rows = EvaluationRows.model_validate({"uri": f"file://{tmp_path}/held.jsonl", "answer": {}})
    with pytest.raises(StageError, match=r"held\.jsonl line 2: field 'answer' is missing"):
        read_rows(rows, "evaluation", tmp_path / "w", {})
    (tmp_path / "held.jsonl").write_text('{"prompt": "2+2", "answer": 4}\n')
    assert read_rows(rows, "evaluation", tmp_path / "w", {})[0].truth == "4"

"""Reading rows: what is accepted, and how what is not is told."""

from __future__ import annotations

import json
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from distillery.api.data import EvaluationRows, Rows
from distillery_trainer.data.rows import Row, read_rows
from distillery_trainer.errors import StageError

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


def truths(tmp_path: Path, *spelled: str) -> list[str | None]:
    """The true answers of rows in which they are spelled so."""
    (tmp_path / "held.jsonl").write_text("".join(f'{{"prompt": "x", "answer": {text}}}\n' for text in spelled))
    rows = EvaluationRows.model_validate({"uri": f"file://{tmp_path}/held.jsonl", "answer": {}})
    return [row.truth for row in read_rows(rows, "evaluation", tmp_path / "w", {})]


def test_truths_keep_the_spelling_of_the_file(tmp_path: Path) -> None:
    """Whoever wrote 0.50 means 0.50; no number is rounded, and none is too long to be read."""
    spelled = [
        "true",
        "false",
        "0.50",
        "1e3",
        "1E+3",
        "-0",
        "-0.0",
        "1.0",
        "9007199254740993",
        "1e400",
        "0.1000000000000000055",
        "7" * 5000,
    ]
    assert truths(tmp_path, *spelled) == spelled
    assert truths(tmp_path, '"true"', '" 0.50 "', '""', "NaN", "-Infinity") == ["true", " 0.50 ", "", "NaN", "-Infinity"]


@pytest.mark.parametrize(
    ("spelled", "told"),
    [
        ("null", "field 'answer' is missing"),
        ("[1]", "(the true answer) must be a string, a number, true or false, not list"),
        ('{"a": 1}', "must be a string, a number, true or false, not dict"),
    ],
)
def test_what_is_no_truth(tmp_path: Path, spelled: str, told: str) -> None:
    with pytest.raises(StageError) as caught:
        truths(tmp_path, "1", spelled)
    assert told in caught.value.message


def test_truths_of_parquet_are_spelled_as_json(tmp_path: Path) -> None:
    pq.write_table(pa.table({"prompt": ["x", "y"], "answer": [True, False]}), tmp_path / "held.parquet")
    rows = EvaluationRows.model_validate({"uri": f"file://{tmp_path}/held.parquet", "answer": {}})
    assert [row.truth for row in read_rows(rows, "evaluation", tmp_path / "w", {})] == ["true", "false"]


@pytest.mark.parametrize(
    ("column", "told"),
    [
        (pa.array([0.1, 1234567.9, None], pa.float32()), ["0.1", "1234567.9"]),
        (pa.array(np.array([0.1, 2.5], np.float16)), ["0.1", "2.5"]),
        (pa.array([0.1, 16777217.0]), ["0.1", "16777217.0"]),
        (pa.array([Decimal("0.50"), Decimal("1E+1")], pa.decimal128(6, 2)), ["0.50", "10.00"]),
    ],
)
def test_numbers_of_parquet_are_told_in_their_own_width(tmp_path: Path, column: pa.Array, told: list[str]) -> None:
    column = column.drop_null()
    pq.write_table(pa.table({"prompt": [str(n) for n in range(len(column))], "answer": column}), tmp_path / "held.parquet")
    rows = EvaluationRows.model_validate({"uri": f"file://{tmp_path}/held.parquet", "answer": {}})
    assert [row.truth for row in read_rows(rows, "evaluation", tmp_path / "w", {})] == told


def test_ids_keep_their_spelling_too(tmp_path: Path) -> None:
    rows = read(tmp_path, '{"id": 1.50, "prompt": "x"}\n{"id": 9007199254740993, "prompt": "y"}\n{"id": true, "prompt": "z"}\n')
    assert [row.id for row in rows] == ["1.50", "9007199254740993", "true"]


@pytest.mark.parametrize(
    ("content", "prompts"),
    [
        (b'{"prompt": "x"}\r\n\r\n{"prompt": "y"}\r\n', ["x", "y"]),
        (b'\xef\xbb\xbf\n{"prompt": "x"}', ["x"]),
        (b'  {"prompt": "x"}  \n\t\n', ["x"]),
        (b'{"prompt": "a\\u0000b"}\n', ["a\0b"]),
        ('{"prompt": "a\u2028b\u0085c"}\n'.encode(), ["a\u2028b\u0085c"]),
        (b'{"prompt": "\\ud83d\\ude00"}\n', ["\U0001f600"]),
        (b'{"prompt": "x", "score": NaN, "n": 1e999}\n', ["x"]),
        (b'{"prompt": [{"role": "user", "content": "x", "weight": 0, "name": null}]}\n', [[{"role": "user", "content": "x"}]]),
    ],
)
def test_lines_that_are_rows(tmp_path: Path, content: bytes, prompts: list[Any]) -> None:
    assert [row.prompt for row in read(tmp_path, content)] == prompts


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b'{"prompt": "x",}\n', "line 1: is not JSON (Expecting property name enclosed in double quotes at column 16)"),
        (b'{"prompt": "x"},\n', "line 1: is not JSON (Extra data at column 16)"),
        (b'{"prompt": "a\x00b"}\n', "line 1: is not JSON (Invalid control character at at column 14)"),
        (b"\x00\x00\x00", "line 1: is not JSON (Expecting value at column 1)"),
        ('{"prompt": "x"}\n'.encode("utf-16"), "line 1: byte 1 is not UTF-8; save the file as UTF-8"),
        (
            b'{"prompt": "x"}\n\xef\xbb\xbf{"prompt": "y"}\n',
            "line 2: is not JSON (Unexpected UTF-8 BOM (decode using utf-8-sig) at column 1)",
        ),
        (b'{"prompt": "x", "prompt": "y"}\n', "line 1: field 'prompt' stands twice in one object; remove one"),
        (b'{"prompt": "x", "meta": {"a": 1, "a": 2}}\n', "line 1: field 'a' stands twice in one object; remove one"),
        (b"[" * 100_000, "line 1: is nested too deeply"),
        (b'{"prompt": 0.50}\n', "must be a non-empty list of {role, content}, not float"),
        (b'{"prompt": true}\n', "must be a non-empty list of {role, content}, not bool"),
        (b'{"prompt": [{"role": "user", "content": [{"type": "text", "text": null}]}]}\n', "whose text is text, not NoneType"),
        (b'{"prompt": [{"role": "user", "content": "x", "weight": 0.5}]}\n', "prompt[0] has 'weight', which would be lost"),
        (b'{"' + b"k" * 9000 + b'": 1}\n', "(the row has '" + "k" * 78 + "\u2026); add it"),
        (
            b'{"prompt": [{"role": "' + b"r" * 9000 + b'", "content": "x"}]}\n',
            "prompt[0].role is '" + "r" * 78 + "\u2026; it must be one of",
        ),
    ],
    ids=lambda value: str(value)[:24] if isinstance(value, str) else "",
)
def test_lines_that_are_no_rows(tmp_path: Path, content: bytes, told: str) -> None:
    assert told in refused(tmp_path, content)


def test_a_line_without_end_is_told_and_not_read_into_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The lines behind it are read."""
    monkeypatch.setattr("distillery.api.rows.LONGEST_LINE", 2**20)
    long = b'{"prompt": "' + b"x" * (3 * 2**20) + b'"}\n'
    message = refused(tmp_path, b'{"prompt": "x"}\n' + long + b'{"prompt": 3}\n')
    assert "2 bad rows" in message
    assert "line 2: is longer than 1 MiB; write one JSON object on each line" in message
    assert "line 3: field 'prompt' must be" in message

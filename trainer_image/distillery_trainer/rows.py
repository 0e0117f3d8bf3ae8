"""Reads rows from JSONL and parquet. What is wrong is told with file, line, field and remedy, for the first few lines at once."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from distillery.api import reasons
from distillery.api.data import EvaluationRows, Rows

from .errors import StageError
from .stores import ROLES, open_source
from .templates import Prompt

_SHOWN = 5
_ROLES = ("system", "user", "assistant", "tool")


class BadRow(ValueError):
    """One row cannot be used; says which field and what to do."""


@dataclass(frozen=True)
class Row:
    """A row as it was given. `completion` is None where the teacher writes it; `where` is file and line, for messages."""

    id: str
    prompt: Prompt
    completion: str | None
    truth: str | None
    where: str


def read_rows(rows: Rows, role: str, work: Path, environment: Mapping[str, str] | None = None) -> list[Row]:
    """All rows of `rows`, in the order of files and lines. Equal ids get the line number appended. StageError RowsInvalid."""
    source, folder = open_source(rows.uri, role, environment), work / "rows" / role
    field, good, bad = ROLES[role][1], [], []
    single = len(found := source.list()) == 1 and not found[0].path
    wanted = [e.path for e in found if single or _wanted(e.path, rows.split)]
    if not wanted:
        raise _nothing(f"{field}.uri {rows.uri!r}", [e.path for e in found], rows.split)
    for path in wanted:
        name = path or rows.uri.rsplit("/", 1)[1]
        source.get(path, folder / name)
        seen = 0
        for line, value in _parsed(folder / name, name):
            seen += 1
            where = f"{name} line {line}"
            try:
                if isinstance(value, BadRow):
                    raise value
                good.append(_row(value, rows, where, str(line) if single else f"{name}:{line}"))
            except BadRow as error:
                bad.append(f"{where}: {error}")
        if not seen:
            bad.append(f"{name}: is empty; put one row on each line")
    if bad:
        more = f" (and {len(bad) - _SHOWN} more)" if len(bad) > _SHOWN else ""
        raise StageError(reasons.ROWS_INVALID, f"{field}: {len(bad)} bad rows in {rows.uri}: {'; '.join(bad[:_SHOWN])}{more}")
    return _distinct(good)


def _nothing(place: str, found: list[str], split: str | None) -> StageError:
    if not found:
        return StageError(reasons.NOT_FOUND, f"{place}: there is no such file or folder; check the path")
    text = f"no .jsonl or .parquet file{f' whose name holds the word {split!r}' if split else ''} among {', '.join(found[:8])}"
    return StageError(reasons.ROWS_INVALID, f"{place}: {text}; correct the URI{' or split' if split else ''}")


def _wanted(path: str, split: str | None) -> bool:
    word = split is None or re.search(rf"(?<![A-Za-z0-9]){re.escape(split)}(?![A-Za-z0-9])", path) is not None
    return path.endswith((".jsonl", ".parquet")) and word


def _parsed(file: Path, name: str) -> Iterator[tuple[int, dict[str, Any] | BadRow]]:
    """Line number (from 1) and the row's columns, or what is wrong with the line."""
    if name.endswith(".parquet"):
        yield from _parquet(file, name)
    elif name.endswith(".jsonl"):
        yield from _jsonl(file)
    else:
        raise StageError(reasons.ROWS_INVALID, f"{name}: is neither .jsonl nor .parquet; convert it and name it so")


def _parquet(file: Path, name: str) -> Iterator[tuple[int, dict[str, Any]]]:
    import pyarrow  # type: ignore[import-untyped]
    import pyarrow.parquet  # type: ignore[import-untyped]

    try:
        batches = pyarrow.parquet.ParquetFile(file.resolve()).iter_batches(1024)
        yield from enumerate((value for batch in batches for value in batch.to_pylist()), 1)
    except (pyarrow.ArrowException, OSError) as error:
        raise StageError(reasons.ROWS_INVALID, f"{name}: is not a readable parquet file ({error}); write it again") from error


def _jsonl(file: Path) -> Iterator[tuple[int, dict[str, Any] | BadRow]]:
    with file.open("rb") as lines:
        for number, raw in enumerate(lines, 1):
            if raw.strip():
                yield number, _json(raw.removeprefix(b"\xef\xbb\xbf") if number == 1 else raw)


def _json(raw: bytes) -> dict[str, Any] | BadRow:
    try:
        value = json.loads(raw.decode())
    except UnicodeDecodeError as error:
        return BadRow(f"byte {error.start + 1} is not UTF-8; save the file as UTF-8")
    except json.JSONDecodeError as error:
        hint = "; write one JSON object on each line, not one array over all" if raw.strip() in (b"[", b"{") else ""
        return BadRow(f"is not JSON ({error.msg} at column {error.colno}){hint}")
    if not isinstance(value, dict):
        return BadRow(f"is a JSON {type(value).__name__}, not an object; write {{...}} on each line")
    return value


def _row(value: Mapping[str, Any], rows: Rows, where: str, number: str) -> Row:
    fields = rows.fields
    completion: str | None = None
    if rows.format == "messages":
        messages = _messages(_column(value, fields.messages), fields.messages)
        if len(messages) < 2 or messages[-1]["role"] != "assistant":
            raise BadRow(f"field {fields.messages!r} must hold a prompt and end with the assistant's message")
        prompt: Prompt = messages[:-1]
        completion = messages[-1]["content"]
    else:
        prompt = _prompt(_column(value, fields.prompt), fields.prompt)
        if rows.format == "promptCompletion":
            completion = _completion(_column(value, fields.completion), fields.completion)
    given = value.get(fields.id)
    row_id = number if given is None else _text(str(given), fields.id)
    return Row(row_id, _with_system(prompt, rows.system_prompt), completion, _truth(value, rows), where)


def _column(value: Mapping[str, Any], name: str) -> Any:
    if value.get(name) is None:
        there = ", ".join(repr(key) for key in list(value)[:8])
        raise BadRow(f"field {name!r} is missing (the row has {there or 'none'}); add it, or name the column under fields")
    return value[name]


def _prompt(value: Any, name: str) -> Prompt:
    if isinstance(value, str):
        if not value.strip():
            raise BadRow(f"field {name!r} is empty; write a prompt or remove the row")
        return _text(value, name)
    messages = _messages(value, name)
    if messages[-1]["role"] == "assistant":
        raise BadRow(f"field {name!r} ends with an assistant message; end it with the user's, or use format messages")
    return messages


def _completion(value: Any, name: str) -> str:
    if isinstance(value, str):
        return _text(value, name)
    messages = _messages(value, name)
    if len(messages) != 1 or messages[0]["role"] != "assistant":
        raise BadRow(f"field {name!r} must be a string or a list with one assistant message")
    return messages[0]["content"]


def _messages(value: Any, name: str) -> list[dict[str, str]]:
    if not isinstance(value, list) or not value:
        raise BadRow(f"field {name!r} must be a non-empty list of {{role, content}}, not {type(value).__name__}")
    return [_message(item, f"{name}[{index}]") for index, item in enumerate(value)]


def _message(item: Any, place: str) -> dict[str, str]:
    if not isinstance(item, dict):
        raise BadRow(f"{place} must be an object {{role, content}}, not {type(item).__name__}")
    role, content = item.get("role"), item.get("content")
    if role not in _ROLES:
        raise BadRow(f"{place}.role is {role!r}; it must be one of {', '.join(_ROLES)}")
    if isinstance(content, list) and all(isinstance(part, dict) and part.get("type") == "text" for part in content):
        content = "".join(str(part.get("text", "")) for part in content)
    if not isinstance(content, str):
        raise BadRow(f"{place}.content must be text, not {type(content).__name__}")
    extra = [key for key, more in item.items() if key not in ("role", "content") and more]
    if extra:
        raise BadRow(f"{place} has {extra[0]!r}, which would be lost: this version takes role and content only")
    return {"role": role, "content": _text(content, f"{place}.content")}


def _text(value: str, place: str) -> str:
    try:
        value.encode()
    except UnicodeEncodeError:
        raise BadRow(f"{place} holds half of a surrogate pair (\\ud800 to \\udfff), which is no text; repair or remove it") from None
    return value


def _truth(value: Mapping[str, Any], rows: Rows) -> str | None:
    if not isinstance(rows, EvaluationRows) or rows.answer is None:
        return None
    truth = _column(value, rows.answer.field)
    if not isinstance(truth, str | int | float | bool):
        raise BadRow(f"field {rows.answer.field!r} (the true answer) must be a string or a number, not {type(truth).__name__}")
    return _text(str(truth), rows.answer.field)


def _with_system(prompt: Prompt, system: str | None) -> Prompt:
    if system is None:
        return prompt
    messages = [{"role": "user", "content": prompt}] if isinstance(prompt, str) else list(prompt)
    return messages if messages[0]["role"] == "system" else [{"role": "system", "content": system}, *messages]


def _distinct(rows: list[Row]) -> list[Row]:
    """Later rows with an id that stood before get '#' and their line number: ids name rows in every later file."""
    seen: set[str] = set()
    for index, row in enumerate(rows):
        new = row.id
        while new in seen:
            new = f"{new}#{row.where.rsplit(' ', 1)[1]}"
        seen.add(new)
        if new != row.id:
            rows[index] = Row(new, row.prompt, row.completion, row.truth, row.where)
    return rows

"""A row of a user's file, read in one way by the stages that learn from it and by the estimate of what it will cost."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, BinaryIO, Final

from .data import EvaluationRows, Rows

#: A string, or messages {role, content} of which the last is not the assistant's.
Prompt = str | Sequence[Mapping[str, str]]
ROLES: Final = ("system", "user", "assistant", "tool")
#: Bytes of a line; more is a file without line breaks, not a row.
LONGEST_LINE: Final = 64 * 2**20
_BOM: Final = b"\xef\xbb\xbf"


class BadRow(ValueError):
    """One row cannot be used; says which field and what to do."""


@dataclass(frozen=True)
class Parts:
    """What a row holds. `id` is None where it has no name of its own, `completion` where the teacher writes it."""

    id: str | None
    prompt: Prompt
    completion: str | None
    truth: str | None


@dataclass(frozen=True)
class Number:
    """A number as the file spells it: 0.50 is an answer that 0.5 is not, and 2**53 + 1 must not be rounded."""

    text: str

    def __bool__(self) -> bool:
        """Whether it is not zero."""
        return self.text.lower().partition("e")[0].strip("-0.") != ""

    def __repr__(self) -> str:
        return self.text


def in_split(path: str, split: str | None) -> bool:
    """Whether a file of a folder is of rows, and of the split where one is named: its path holds the split as a word."""
    word = split is None or re.search(rf"(?<![A-Za-z0-9]){re.escape(split)}(?![A-Za-z0-9])", path) is not None
    return path.endswith((".jsonl", ".parquet")) and word


def json_lines(file: BinaryIO) -> Iterator[tuple[int, dict[str, Any] | BadRow]]:
    """Line number (from 1) and columns of each line that is not blank, or what is wrong with it."""
    for number, raw in enumerate(_lines(file), 1):
        if raw is None:
            yield number, BadRow(f"is longer than {LONGEST_LINE >> 20} MiB; write one JSON object on each line")
        elif (line := raw.removeprefix(_BOM) if number == 1 else raw).strip():
            yield number, _parsed(line)


def parts_of(value: Mapping[str, Any], rows: Rows) -> Parts:
    """Prompt and completion of a row as `rows` says where they stand. BadRow."""
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
    row_id = None if given is None else _text(_spelled(given), fields.id)
    return Parts(row_id, _with_system(prompt, rows.system_prompt), completion, _truth(value, rows))


def _lines(file: BinaryIO) -> Iterator[bytes | None]:
    """Lines, None for one that is too long."""
    while raw := file.readline(LONGEST_LINE):
        whole = len(raw) < LONGEST_LINE or raw.endswith(b"\n")
        yield raw if whole else None
        while not whole:
            rest = file.readline(LONGEST_LINE)
            whole = len(rest) < LONGEST_LINE or rest.endswith(b"\n")


def _parsed(raw: bytes) -> dict[str, Any] | BadRow:
    try:
        value = json.loads(raw.decode(), parse_int=Number, parse_float=Number, parse_constant=Number, object_pairs_hook=_object)
    except UnicodeDecodeError as error:
        return BadRow(f"byte {error.start + 1} is not UTF-8; save the file as UTF-8")
    except json.JSONDecodeError as error:
        hint = "; write one JSON object on each line, not one array over all" if raw.strip() in (b"[", b"{") else ""
        return BadRow(f"is not JSON ({error.msg} at column {error.colno}){hint}")
    except RecursionError:
        return BadRow("is nested too deeply; write one flat object on each line")
    except BadRow as error:
        return error
    if not isinstance(value, dict):
        return BadRow(f"is a JSON {_kind(value)}, not an object; write {{...}} on each line")
    return value


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        twice = next(key for at, (key, _) in enumerate(pairs) if any(key == other for other, _ in pairs[:at]))
        raise BadRow(f"field {_shown(twice)} stands twice in one object; remove one")
    return found


def _kind(value: Any) -> str:
    if isinstance(value, Number):
        return "int" if value.text.lstrip("-").isdigit() else "float"
    return type(value).__name__


def _shown(value: Any) -> str:
    """A value of the user's in a message."""
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:79]}…"


def _spelled(value: Any) -> str:
    """As JSON has it."""
    return str(value).lower() if isinstance(value, bool) else str(value)


def _column(value: Mapping[str, Any], name: str) -> Any:
    if value.get(name) is None:
        there = ", ".join(_shown(key) for key in list(value)[:8])
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
        raise BadRow(f"field {name!r} must be a non-empty list of {{role, content}}, not {_kind(value)}")
    return [_message(item, f"{name}[{index}]") for index, item in enumerate(value)]


def _message(item: Any, place: str) -> dict[str, str]:
    if not isinstance(item, dict):
        raise BadRow(f"{place} must be an object {{role, content}}, not {_kind(item)}")
    role, content = item.get("role"), item.get("content")
    if role not in ROLES:
        raise BadRow(f"{place}.role is {_shown(role)}; it must be one of {', '.join(ROLES)}")
    if isinstance(content, list) and all(isinstance(part, dict) and part.get("type") == "text" for part in content):
        content = "".join(_part(part.get("text", ""), f"{place}.content") for part in content)
    if not isinstance(content, str):
        raise BadRow(f"{place}.content must be text, not {_kind(content)}")
    extra = [key for key, more in item.items() if key not in ("role", "content") and more]
    if extra:
        raise BadRow(f"{place} has {_shown(extra[0])}, which would be lost: this version takes role and content only")
    return {"role": role, "content": _text(content, f"{place}.content")}


def _part(text: Any, place: str) -> str:
    if not isinstance(text, str):
        raise BadRow(f"{place} must hold parts {{type, text}} whose text is text, not {_kind(text)}")
    return text


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
    if not isinstance(truth, str | int | float | bool | Number):
        raise BadRow(f"field {rows.answer.field!r} (the true answer) must be a string, a number, true or false, not {_kind(truth)}")
    return _text(_spelled(truth), rows.answer.field)


def _with_system(prompt: Prompt, system: str | None) -> Prompt:
    if system is None:
        return prompt
    messages: Iterable[Mapping[str, str]] = [{"role": "user", "content": prompt}] if isinstance(prompt, str) else prompt
    messages = list(messages)
    return messages if messages[0]["role"] == "system" else [{"role": "system", "content": system}, *messages]

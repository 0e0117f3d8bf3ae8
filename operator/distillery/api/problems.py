"""What is wrong with an object, in words of this project: one sentence a fault, with field, value and remedy, none of the library's own."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

from pydantic import ValidationError
from pydantic_core import ErrorDetails

_SHOWN: Final = 80
_Words = Callable[[Any, Mapping[str, Any]], str]


def problems(error: ValidationError, root: str = "", values: bool = True) -> list[str]:
    """One line per fault, as the API server writes it: `spec.exports[0].name: ...`. Without `values` texts are masked: one may be a key."""
    return [f"{path or '(root)'}: {told}" for path, told in _faults(error, root, values)]


def _faults(error: ValidationError, root: str, values: bool) -> Iterator[tuple[str, str]]:
    told = set[tuple[Any, ...]]()
    for found in error.errors(include_url=False):
        if not values and isinstance(found["input"], str):
            found["input"] = "*" * len(found["input"])
        # a default that was not made, because of a fault that is told already
        if found["type"] == "default_factory_not_called":
            continue
        place, words = found["loc"], _words(found)
        if place and _is_choice(found, place[-1]):
            place, words = place[:-1], f"is {shown(found['input'])}; it must be text or a whole number"
        elif place and place[-1] == "[key]":
            place, words = place[:-1], f"the key {words}"
        if (place, words) not in told:
            told.add((place, words))
            yield _path(root, place), words


def _is_choice(found: ErrorDetails, last: int | str) -> bool:
    """Whether the place ends with the kind that the library tried, of several that are allowed, rather than with a field."""
    kinds = {"string_type": ("constrained-str", "str"), "int_type": ("constrained-int", "int")}
    return last in kinds.get(found["type"], ())


def _path(root: str, place: tuple[int | str, ...]) -> str:
    parts = (f"[{part}]" if isinstance(part, int) else f".{part if len(part) <= _SHOWN else part[:_SHOWN] + '…'}" for part in place)
    return (root + "".join(parts)).lstrip(".")


def shown(value: Any) -> str:
    """A value as its file has it, or what it is where that is long."""
    if value is None:
        return "null"
    if isinstance(value, dict):
        return "an object"
    if isinstance(value, list | tuple):
        return "a list"
    if isinstance(value, str | bool | int | float):
        text = json.dumps(value, ensure_ascii=False)
        return (text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…").encode(errors="replace").decode()
    return str(value)[:_SHOWN]


def _words(found: ErrorDetails) -> str:
    words = _WORDS.get(found["type"])
    return words(found["input"], found.get("ctx", {})) if words else found["msg"]


def _must(what: str) -> _Words:
    """`what` may name what the library says of the fault, for example {le}."""
    return lambda value, ctx: f"is {shown(value)}; it must be {what.format(**ctx)}"


def _length(unit: str, what: str) -> _Words:
    return lambda value, ctx: f"has {len(value)} {unit}; it must have {what.format(**ctx)}"


def _text(value: Any, ctx: Mapping[str, Any]) -> str:
    simple = value is not None and not isinstance(value, dict | list)
    return f"is {shown(value)}, which is no text; put it in quotes" if simple else f"is {shown(value)}; it must be text"


def _unquoted(what: str) -> _Words:
    return lambda value, ctx: f"is {shown(value)}; it must be {what}" + (", without quotes" if isinstance(value, str) else "")


def _own(value: Any, ctx: Mapping[str, Any]) -> str:
    """A rule of this project, which says what to do; the value where it is one."""
    message = str(ctx.get("error", ""))
    return f"{message} (it is {shown(value)})" if isinstance(value, str | int | float) else message


_WORDS: Final[Mapping[str, _Words]] = {
    "value_error": _own,
    "missing": lambda value, ctx: "is missing; add it",
    "extra_forbidden": lambda value, ctx: "is no field of this object; correct its name or remove it",
    "literal_error": _must("{expected}"),
    "string_type": _text,
    "int_type": _unquoted("a whole number"),
    "int_from_float": _unquoted("a whole number"),
    "float_type": _unquoted("a number"),
    "bool_type": _unquoted("true or false"),
    "finite_number": _must("a finite number"),
    "less_than_equal": _must("at most {le}"),
    "less_than": _must("below {lt}"),
    "greater_than_equal": _must("at least {ge}"),
    "greater_than": _must("above {gt}"),
    "multiple_of": _must("a multiple of {multiple_of}"),
    "string_too_short": _length("characters", "at least {min_length}"),
    "string_too_long": _length("characters", "at most {max_length}"),
    "too_short": _length("items", "at least {min_length}"),
    "too_long": _length("items", "at most {max_length}"),
    "model_type": _must("an object"),
    "dict_type": _must("an object"),
    "list_type": _must("a list"),
    "tuple_type": _must("a list"),
    "json_invalid": lambda value, ctx: f"Invalid JSON: {ctx['error']}",
}

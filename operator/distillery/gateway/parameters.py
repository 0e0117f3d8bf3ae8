"""The parameters of a request that are passed on, each with its check: what is not listed could cost what no hold covers."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from typing import Any, Final

from .errors import invalid, shown

Check = Callable[[str, Any], Any]
#: More answers to one request than any job may ask for.
MOST_CHOICES: Final = 64
_FORMATS: Final = ("text", "json_object", "json_schema")
_ROLES: Final = frozenset(("system", "developer", "user", "assistant"))
_FIELDS: Final = frozenset(("role", "content", "name"))
_WORD: Final = re.compile(r"[A-Za-z0-9_.-]{1,64}")


def _number(low: float, high: float) -> Check:
    def check(name: str, value: Any) -> Any:
        # no comparison with NaN holds
        if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
            raise invalid(name, f"{name}: {shown(value)} is not a number from {low:g} to {high:g}")
        # 0, 0.0 and -0.0 ask for the same and have to have the same key
        return int(value) if value == int(value) else value

    return check


def integer(low: int, high: int) -> Check:
    """An integer within bounds."""

    def check(name: str, value: Any) -> int:
        if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
            raise invalid(name, f"{name}: {shown(value)} is not an integer from {low} to {high}")
        return value

    return check


def boolean(name: str, value: Any) -> bool:
    """true or false."""
    if not isinstance(value, bool):
        raise invalid(name, f"{name}: {shown(value)} is neither true nor false")
    return value


def _stop(name: str, value: Any) -> list[str]:
    texts = [value] if isinstance(value, str) else value
    if not isinstance(texts, list) or not 1 <= len(texts) <= 4 or not all(isinstance(text, str) and text for text in texts):
        raise invalid(name, f"{name}: give a text or up to four, none of them empty")
    return texts


def _word(*known: str) -> Check:
    def check(name: str, value: Any) -> str:
        if not isinstance(value, str) or value not in known:
            raise invalid(name, f"{name}: {shown(value)} is not one of {', '.join(known)}")
        return value

    return check


def _response_format(name: str, value: Any) -> Any:
    if not isinstance(value, dict) or value.get("type") not in _FORMATS:
        raise invalid(name, f"{name}: its type has to be text, json_object or json_schema")
    return value


_BOTH: Final[Mapping[str, Check]] = {
    "temperature": _number(0, 100),
    "top_p": _number(0, 1),
    "n": integer(1, MOST_CHOICES),
    "stop": _stop,
    "seed": integer(-(2**63), 2**63 - 1),
    "presence_penalty": _number(-2, 2),
    "frequency_penalty": _number(-2, 2),
    # of servers of open weights
    "top_k": integer(-1, 1_000_000),
    "min_p": _number(0, 1),
    "repetition_penalty": _number(0, 10),
}
#: Parameters of /v1/chat/completions that are passed on, beside model, messages and the bound on the answer.
CHAT: Final[Mapping[str, Check]] = {
    **_BOTH,
    "logprobs": boolean,
    "top_logprobs": integer(0, 20),
    "response_format": _response_format,
    "reasoning_effort": _word("none", "minimal", "low", "medium", "high", "xhigh"),
}
#: Parameters of /v1/completions that are passed on, beside model, prompt and the bound on the answer.
TEXT: Final[Mapping[str, Check]] = {**_BOTH, "logprobs": integer(0, 20)}


def conversation(messages: Any) -> tuple[list[dict[str, Any]], list[str]]:
    """The messages as they are passed on, and every text in them, names and roles included; only text is let through."""
    if not isinstance(messages, list) or not messages:
        raise invalid("messages", "messages: give a list of at least one message")
    passed, texts = [], list[str]()
    for index, message in enumerate(messages):
        where = f"messages[{index}]"
        if not isinstance(message, dict):
            raise invalid(where, f"{where}: is not an object")
        role = message.get("role")
        if not isinstance(role, str) or role not in _ROLES:
            raise invalid(f"{where}.role", f"{where}.role: {shown(role)} is not one of {', '.join(sorted(_ROLES))}")
        if strange := message.keys() - _FIELDS:
            field = named(min(strange))
            raise invalid(f"{where}.{field}", f"{where}.{field}: is not supported; a message has role, content and name")
        texts.append(role)
        if "name" in message:
            texts.append(_text(f"{where}.name", message["name"]))
        content, said = _content(f"{where}.content", message.get("content"))
        passed.append({**message, "content": content})
        texts.extend(said)
    return passed, texts


def named(field: str) -> str:
    """A field of a request as a message names it: as it is where it is a word, else in short."""
    return field if _WORD.fullmatch(field) else shown(field)


def _content(where: str, content: Any) -> tuple[Any, list[str]]:
    """A text, or parts of text. Nothing else of a part goes on: some servers read prices or permissions from it (cache_control)."""
    if not isinstance(content, list):
        text = _text(where, content)
        return text, [text]
    texts = []
    for index, part in enumerate(content):
        kind = part.get("type") if isinstance(part, dict) else None
        if kind != "text":
            text = f"{where}[{index}].type: {shown(kind)} is not supported; its cost has no bound. Send text"
            raise invalid(f"{where}[{index}].type", text)
        texts.append(_text(f"{where}[{index}].text", part.get("text")))
    return [{"type": "text", "text": text} for text in texts], texts


def _text(where: str, value: Any) -> str:
    if not isinstance(value, str):
        raise invalid(where, f"{where}: has to be a text")
    return value


def checked(name: str, value: Any) -> Any:
    """`value`, where every server can be sent it: finite numbers, and texts that UTF-8 can hold. How deep it is was counted before."""
    if isinstance(value, str):
        _whole_text(name, value)
    elif isinstance(value, float):
        if not math.isfinite(value):
            raise invalid(name, f"{name}: holds a number that is not finite")
    elif isinstance(value, dict | list):
        for inner in value.values() if isinstance(value, dict) else value:
            checked(name, inner)
        for field in value if isinstance(value, dict) else ():
            _whole_text(name, field)
    return value


def _whole_text(name: str, text: str) -> None:
    if text.isascii():
        return
    try:
        text.encode()
    except UnicodeEncodeError:
        raise invalid(name, f"{name}: a text holds half of a surrogate pair, which is no UTF-8") from None

"""The parameters of a request that are passed on, each with its check: what is not listed could cost what no hold covers."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any, Final

from .errors import invalid

Check = Callable[[str, Any], Any]
#: More answers to one request than any job may ask for.
MOST_CHOICES: Final = 64
_TEXT_PARTS: Final = frozenset(("text",))
_ROLES: Final = frozenset(("system", "developer", "user", "assistant"))


def _number(low: float, high: float) -> Check:
    def check(name: str, value: Any) -> Any:
        if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value) or not low <= value <= high:
            raise invalid(name, f"{name}: {value!r} is not a number from {low:g} to {high:g}")
        # 0, 0.0 and -0.0 ask for the same and have to have the same key
        return int(value) if value == int(value) else value

    return check


def integer(low: int, high: int) -> Check:
    """An integer within bounds."""

    def check(name: str, value: Any) -> int:
        if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
            raise invalid(name, f"{name}: {value!r} is not an integer from {low} to {high}")
        return value

    return check


def boolean(name: str, value: Any) -> bool:
    """true or false."""
    if not isinstance(value, bool):
        raise invalid(name, f"{name}: {value!r} is neither true nor false")
    return value


def _stop(name: str, value: Any) -> list[str]:
    texts = [value] if isinstance(value, str) else value
    if not isinstance(texts, list) or not 1 <= len(texts) <= 4 or not all(isinstance(text, str) and text for text in texts):
        raise invalid(name, f"{name}: give a text or up to four, none of them empty")
    return texts


def _word(*known: str) -> Check:
    def check(name: str, value: Any) -> str:
        if value not in known or not isinstance(value, str):
            raise invalid(name, f"{name}: {value!r} is not one of {', '.join(known)}")
        return value

    return check


def _response_format(name: str, value: Any) -> Any:
    if not isinstance(value, dict) or value.get("type") not in ("text", "json_object", "json_schema"):
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


def message_texts(messages: Any) -> list[str]:
    """Every text of a conversation, names and roles included; only text is let through."""
    if not isinstance(messages, list) or not messages:
        raise invalid("messages", "messages: give a list of at least one message")
    texts: list[str] = []
    for index, message in enumerate(messages):
        where = f"messages[{index}]"
        if not isinstance(message, dict):
            raise invalid(where, f"{where}: is not an object")
        if message.get("role") not in _ROLES:
            raise invalid(f"{where}.role", f"{where}.role: {message.get('role')!r} is not one of {', '.join(sorted(_ROLES))}")
        if strange := message.keys() - {"role", "content", "name"}:
            field = min(strange)
            raise invalid(f"{where}.{field}", f"{where}.{field}: is not supported; a message has role, content and name")
        texts.append(message["role"])
        if "name" in message:
            texts.append(_text(f"{where}.name", message["name"]))
        texts.extend(_content(f"{where}.content", message.get("content")))
    return texts


def _content(where: str, content: Any) -> list[str]:
    if not isinstance(content, list):
        return [_text(where, content)]
    texts = []
    for index, part in enumerate(content):
        kind = part.get("type") if isinstance(part, dict) else None
        if kind not in _TEXT_PARTS:
            raise invalid(f"{where}[{index}].type", f"{where}[{index}].type: {kind!r} is not supported; its cost has no bound. Send text")
        texts.append(_text(f"{where}[{index}].text", part.get("text")))
    return texts


def _text(where: str, value: Any) -> str:
    if not isinstance(value, str):
        raise invalid(where, f"{where}: has to be a text")
    return value

"""What of an answer can be used, rebuilt from the fields that are known: whoever reads a kept answer later finds nothing else. Pure.

A choice that cannot be used is left out, with its reason; log-probabilities that are none are left out of a choice that is good without
them. So a hostile answer is a fault once, here, and never again in the trainer.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

from distillery.api.finish import ending

Finish = Literal["stop", "truncated", "refused"]
#: By how much a log-probability may be above 0: servers round.
_SLACK: Final = 1e-3
#: vLLM writes it for a probability that it did not compute; others write -Infinity, which is no JSON, or the lowest float (llama.cpp).
_NONE: Final = -9999.0
_NAME: Final = 200
_TOP: Final = ("id", "object", "created", "model", "system_fingerprint", "service_tier")
_REASONING: Final = ("reasoning_content", "reasoning")
_THOUGHTS: Final = ("thinking", "reasoning")


_ENCODE: Final = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode


class Unusable(ValueError):
    """A choice or its log-probabilities are not what they ought to be; the message says what."""


@dataclass(frozen=True, slots=True)
class Checked:
    """Choices that can be used, numbered anew in their order; how the worst of them ended; why others are left out."""

    choices: list[dict[str, Any]]
    finish: Finish
    lacking: str


def checked(choices: object, n: int) -> Checked:
    """The first n usable choices of an answer. Those that only say that they are no answer do not make one."""
    if not isinstance(choices, list):
        return Checked([], "stop", "it has no list of choices")
    found: list[dict[str, Any]] = []
    lacking = "" if choices else "its list of choices is empty"
    for choice in sorted((c for c in choices if isinstance(c, dict)), key=_index):
        if len(found) == n:
            break
        try:
            found.append(_choice(choice, len(found)))
        except Unusable as error:
            lacking = lacking or str(error)
    if len(found) < n and not lacking:
        lacking = f"it has {len(found)} of {n} choices"
    endings = [_ending(choice) for choice in found]
    if found and all(how == "unanswered" for how in endings):
        return Checked([], "stop", f"finish_reason {found[0]['finish_reason']}")
    return Checked(found, "refused" if "refused" in endings else "truncated" if "cut" in endings else "stop", lacking)


def encoded(answer: Mapping[str, Any], choices: Sequence[Mapping[str, Any]]) -> bytes:
    """The answer as it is kept and given. `choices_in` reads it."""
    top = {name: value for name in _TOP if (value := label(answer.get(name))) is not None}
    whole = {**top, "choices": choices, "usage": counts(answer.get("usage"))}
    return _ENCODE(whole).encode()


def choices_in(body: bytes, n: int) -> int:
    """How many choices a kept answer to a request for n has, without parsing what may be megabytes.

    In texts quotes are escaped, so this stands at the beginning of choices alone. Older answers, kept as they came, have all n.
    """
    return min(n, body.count(b'{"index":') or n)


def probabilities(given: object) -> dict[str, Any] | None:
    """Log-probabilities, as far as they are some."""
    try:
        return _logprobs(given)
    except Unusable:
        return None


def spelled(logprobs: Mapping[str, Any] | None) -> str:
    """What the tokens of log-probabilities say one after the other: it need not be the text beside them."""
    found = logprobs or {}
    return "".join([*(entry["token"] for entry in found.get("content", ())), *found.get("tokens", ())])


def _index(choice: Mapping[str, Any]) -> int:
    index = choice.get("index")
    return index if type(index) is int and 0 <= index < 2**31 else 2**31


def _ending(choice: Mapping[str, Any]) -> str:
    message = choice.get("message")
    return "refused" if message is not None and message.get("refusal") else ending(choice["finish_reason"])


def _choice(choice: Mapping[str, Any], number: int) -> dict[str, Any]:
    finish = choice.get("finish_reason")
    if not (finish is None or isinstance(finish, str)) or len(finish or "") > _NAME:
        raise Unusable("finish_reason is no word")
    found: dict[str, Any] = {"index": number, "finish_reason": None if finish is None else _text("finish_reason", finish)}
    message = choice.get("message")
    if isinstance(message, dict):
        found["message"] = _message(message)
    elif message is None and isinstance(choice.get("text"), str):
        found["text"] = _text("text", choice["text"])
    else:
        raise Unusable("a choice has neither a message nor a text")
    found["logprobs"] = probabilities(choice.get("logprobs"))
    return found


def _message(message: Mapping[str, Any]) -> dict[str, Any]:
    found = {"role": "assistant", "content": _content(message.get("content"))}
    # a server's own name for "nothing" beside these is no reason to lose a text
    for name in (*_REASONING, "refusal"):
        if isinstance(value := message.get(name), str):
            found[name] = _text(f"message.{name}", value)
    return found


def _content(content: object) -> Any:
    """A text or nothing, or parts: of text, and of thoughts, which some servers give as a list of texts in turn."""
    if content is None:
        return None
    if not isinstance(content, list):
        return _text("message.content", content)
    found = []
    for part in (part for part in content if isinstance(part, dict)):
        kind = part.get("type")
        if kind == "text":
            found.append({"type": kind, "text": _text("message.content", part.get("text"))})
        elif isinstance(kind, str) and kind in _THOUGHTS:
            found.append({"type": kind, kind: _thought(part.get(kind))})
    return found


def _thought(given: object) -> str:
    if isinstance(given, list):
        return "".join(_text("message.content", part.get("text")) for part in given if isinstance(part, dict))
    return _text("message.content", given)


def _text(name: str, value: object) -> str:
    if not isinstance(value, str):
        raise Unusable(f"{name} is no text")
    if not value.isascii():
        try:
            value.encode()
        except UnicodeEncodeError:
            # some servers cut an emoji in two
            raise Unusable(f"{name} holds half of a surrogate pair, which is no text") from None
    return value


def _logprobs(given: object) -> dict[str, Any] | None:
    """Of a chat answer, one entry a token in `content`, which some servers give for texts too; of a text, lists side by side."""
    if not isinstance(given, dict):
        return None
    if isinstance(content := given.get("content"), list):
        return {"content": [_entry(entry) for entry in content]}
    tokens = given.get("tokens")
    if not isinstance(tokens, list):
        return None
    found: dict[str, Any] = {"tokens": [_token(token) for token in tokens]}
    readers: dict[str, Callable[[Any], Any]] = {"token_logprobs": _logprob, "top_logprobs": _top, "text_offset": _whole}
    for name, read in readers.items():
        column = given.get(name)
        if isinstance(column, list) and len(column) == len(tokens):
            found[name] = [None if value is None else read(value) for value in column]
    return found


def _entry(entry: object, with_tops: bool = True) -> dict[str, Any]:
    if not isinstance(entry, dict):
        raise Unusable("a token is no object")
    found = {"token": _token(entry.get("token")), "logprob": _logprob(entry.get("logprob"))}
    data = entry.get("bytes")
    if isinstance(data, list):
        try:
            bytes(data)
        except (TypeError, ValueError):
            raise Unusable("bytes of a token are none") from None
        found["bytes"] = data
    if type(number := entry.get("id")) is int and 0 <= number < 2**31:
        found["id"] = number
    if with_tops:
        found["top_logprobs"] = _tops(entry.get("top_logprobs"))
    return found


def _tops(given: object) -> list[dict[str, Any]]:
    if given is None:
        return []
    if not isinstance(given, list):
        raise Unusable("top_logprobs is no list")
    return [_entry(entry, with_tops=False) for entry in given]


def _top(given: object) -> dict[str, float]:
    if not isinstance(given, dict):
        raise Unusable("an entry of top_logprobs is no object")
    return {_token(token): _logprob(value) for token, value in given.items()}


def _token(value: object) -> str:
    """A token may be a part of a character: its bytes tell which, where they are given."""
    if not isinstance(value, str):
        raise Unusable("a token is no text")
    return value if value.isascii() else value.encode(errors="replace").decode()


def _logprob(value: object) -> float:
    # no comparison with NaN holds; a number is compared before it is converted, since an integer may be too large for that
    if (type(value) is not float and type(value) is not int) or not value <= _SLACK:
        raise Unusable("a log-probability is no number of at most 0")
    return min(float(value), 0.0) if value > _NONE else _NONE


def _whole(value: object) -> int:
    if type(value) is not int or not 0 <= value < 2**53:
        raise Unusable("an offset is no whole number")
    return value


def label(value: object) -> str | int | None:
    """A name or a time, as far as it is one."""
    if isinstance(value, str):
        return value[:_NAME].encode(errors="replace").decode()
    return value if type(value) is int and 0 <= value < 2**53 else None


def counts(usage: object, depth: int = 0) -> dict[str, Any]:
    """The counts of a usage and of its details."""
    found: dict[str, Any] = {}
    for name, value in list(usage.items())[:64] if isinstance(usage, dict) else ():
        if name == "index":
            # the mark of a choice
            continue
        if type(value) is int and 0 <= value < 2**53:
            found[_token(name)[:_NAME]] = value
        elif isinstance(value, dict) and depth == 0:
            found[_token(name)[:_NAME]] = counts(value, 1)
    return found

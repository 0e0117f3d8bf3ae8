"""Server-sent events of a teacher: read, and put together to the answer that the same request would have got without streaming."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any, Final

DONE: Final = b"[DONE]"
_TOP: Final = ("id", "created", "model", "system_fingerprint", "service_tier")
#: Texts that come in pieces; reasoning is shown under either name by servers of open weights.
_PIECES: Final = ("content", "refusal", "reasoning_content", "reasoning")


class Events:
    """Cuts a byte stream into the data of its events."""

    def __init__(self) -> None:
        self._rest = b""
        self._data: list[bytes] = []

    def feed(self, chunk: bytes) -> Iterator[bytes]:
        """The data of every event that this chunk completes."""
        *lines, self._rest = (self._rest + chunk).split(b"\n")
        for line in lines:
            line = line.rstrip(b"\r")
            if line.startswith(b"data:"):
                self._data.append(line[5:].removeprefix(b" "))
            elif not line and self._data:
                yield b"\n".join(self._data)
                self._data = []

    def end(self) -> Iterator[bytes]:
        """An event that the end of the stream completes: some servers leave out the last blank line."""
        yield from self.feed(b"\n\n")


class Assembly:
    """Chunks in, the whole answer out. `chat` tells the two shapes apart."""

    def __init__(self, chat: bool) -> None:
        self._chat = chat
        self._top: dict[str, Any] = {}
        self._choices: dict[int, dict[str, Any]] = {}
        self._usage: Any = None

    def add(self, chunk: Mapping[str, Any]) -> None:
        """One chunk."""
        for name in _TOP:
            if chunk.get(name) is not None:
                self._top.setdefault(name, chunk[name])
        if isinstance(chunk.get("usage"), dict):
            self._usage = chunk["usage"]
        for part in chunk.get("choices") or ():
            self._add_choice(part)

    def whole(self, n: int) -> bool:
        """Whether nothing is missing: usage, and the end of each of the n answers."""
        ended = [choice for choice in self._choices.values() if choice["finish_reason"] is not None]
        return self._usage is not None and len(ended) == len(self._choices) == n

    def answer(self) -> dict[str, Any]:
        """The answer as a request without streaming would have got it."""
        kind = "chat.completion" if self._chat else "text_completion"
        choices = [self._choices[index] for index in sorted(self._choices)]
        return {**self._top, "object": kind, "choices": choices, "usage": self._usage}

    def _add_choice(self, part: Mapping[str, Any]) -> None:
        index = part.get("index") or 0
        choice = self._choices.get(index)
        if choice is None:
            choice = self._choices[index] = {"index": index, "finish_reason": None, "logprobs": None}
            choice |= {"message": {"role": "assistant", "content": ""}} if self._chat else {"text": ""}
        if part.get("finish_reason") is not None:
            choice["finish_reason"] = part["finish_reason"]
        if self._chat:
            message, delta = choice["message"], part.get("delta") or {}
            for name in _PIECES:
                if isinstance(delta.get(name), str):
                    message[name] = message.get(name, "") + delta[name]
        else:
            choice["text"] += part.get("text") or ""
        if isinstance(part.get("logprobs"), dict):
            choice["logprobs"] = _joined(choice["logprobs"] or {}, part["logprobs"])


def _joined(known: dict[str, Any], more: Mapping[str, Any]) -> dict[str, Any]:
    """Log-probabilities are lists, one entry per token, in both shapes."""
    for name, value in more.items():
        if isinstance(value, list):
            known[name] = [*(known.get(name) or []), *value]
        else:
            known.setdefault(name, value)
    return known


def replay(answer: Mapping[str, Any], chat: bool, usage_chunk: bool) -> Iterator[bytes]:
    """A kept answer as the events of a stream."""
    top = {**{name: answer[name] for name in _TOP if name in answer}, "object": "chat.completion.chunk" if chat else "text_completion"}
    for choice in answer["choices"]:
        part: dict[str, Any] = {"index": choice.get("index", 0), "logprobs": choice.get("logprobs"), "finish_reason": None}
        if chat:
            part["delta"] = choice.get("message") or {}
        else:
            part["text"] = choice.get("text", "")
        yield event({**top, "choices": [part]})
        last: dict[str, Any] = {"index": part["index"], "logprobs": None, "finish_reason": choice.get("finish_reason")}
        last |= {"delta": dict[str, str]()} if chat else {"text": ""}
        yield event({**top, "choices": [last]})
    if usage_chunk:
        yield event({**top, "choices": [], "usage": answer.get("usage")})
    yield b"data: [DONE]\n\n"


def event(content: Mapping[str, Any]) -> bytes:
    """One event."""
    return b"data: " + json.dumps(content, ensure_ascii=False, separators=(",", ":")).encode() + b"\n\n"

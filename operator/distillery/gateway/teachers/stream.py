"""Server-sent events of a teacher: read, and put together to the answer that the same request would have got without streaming."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any, Final

from .choices import counts, label, probabilities, spelled
from .reading import size

DONE: Final = b"[DONE]"
_TOP: Final = ("id", "created", "model", "system_fingerprint", "service_tier")
#: Texts that come in pieces; reasoning is shown under either name by servers of open weights.
_PIECES: Final = ("content", "refusal", "reasoning_content", "reasoning")

#: Characters of a text before its newest piece that are looked at with it: a key may be spread over pieces.
_END: Final = 4096


class Events:
    """Cuts a byte stream into the data of its events."""

    def __init__(self) -> None:
        #: Of a line that is not whole yet, in the pieces that came: put together once, however small they are.
        self._rest: list[bytes] = []
        self._data: list[bytes] = []

    def feed(self, chunk: bytes) -> Iterator[bytes]:
        """The data of every event that this chunk completes."""
        if b"\n" not in chunk:
            self._rest.append(chunk)
            return
        *lines, rest = b"".join([*self._rest, chunk]).split(b"\n")
        self._rest = [rest]
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
        #: Texts of choices in the pieces that came, and how each ends.
        self._texts: dict[tuple[int, str], list[str]] = {}
        self._ends: dict[tuple[int, str], str] = {}
        self._usage: Any = None
        self.error: Any = None
        """What the teacher says went wrong."""

    def add(self, chunk: Mapping[str, Any]) -> list[str]:
        """One chunk; gives how the texts end that it made longer. Raises ValueError where it cannot be read."""
        for name in _TOP:
            if chunk.get(name) is not None:
                self._top.setdefault(name, chunk[name])
        self.error = self.error or chunk.get("error")
        parts = chunk.get("choices") or []
        if not isinstance(parts, list) or not all(isinstance(part, dict) for part in parts):
            raise ValueError("choices is no list of objects")
        groq = chunk.get("x_groq")
        for place in (chunk, *parts, groq if isinstance(groq, dict) else {}):
            # some say it in each chunk, some with the last choice; of several the largest counts
            if isinstance(usage := place.get("usage"), dict) and (self._usage is None or size(usage) > size(self._usage)):
                self._usage = usage
        return [text for part in parts for text in self._add_choice(part)]

    @property
    def billed(self) -> bool:
        """Whether the usage came."""
        return self._usage is not None

    def answer(self, done: bool) -> dict[str, Any]:
        """The answer as a request without streaming would have got it: choices whose end came, or all where the stream came to its end."""
        kind = "chat.completion" if self._chat else "text_completion"
        for (index, name), pieces in self._texts.items():
            choice = self._choices[index]
            (choice["message"] if self._chat else choice)[name] = "".join(pieces)
        choices = [self._choices[index] for index in sorted(self._choices)]
        ended = [choice for choice in choices if done or choice["finish_reason"] is not None]
        # an error after the first words says nothing about what they cost
        failed = {"error": self.error} if self.error and not choices else {}
        return {**self._top, "object": kind, "choices": ended, "usage": self._usage, **failed}

    def passed_on(self, chunk: Mapping[str, Any]) -> bytes:
        """A chunk that was added, as whoever asked gets it: of the fields that are known, for nobody looks at what stands in others."""
        top = {name: value for name in _TOP if (value := label(self._top.get(name))) is not None}
        kind = "chat.completion.chunk" if self._chat else "text_completion"
        found = {**top, "object": kind, "choices": [self._shown(part) for part in chunk.get("choices") or []]}
        return event(found if chunk.get("usage") is None else {**found, "usage": counts(chunk["usage"])})

    def _shown(self, part: Mapping[str, Any]) -> dict[str, Any]:
        finish, more = part.get("finish_reason"), part.get("delta") if self._chat else part
        given = more if isinstance(more, Mapping) else {}
        texts = {name: given[name] for name in (("role", *_PIECES) if self._chat else ("text",)) if isinstance(given.get(name), str)}
        found = {
            "index": part.get("index") or 0,
            "finish_reason": finish if isinstance(finish, str) else None,
            "logprobs": probabilities(part.get("logprobs")),
        }
        return {**found, "delta": texts} if self._chat else {**found, "text": "", **texts}

    def _add_choice(self, part: Mapping[str, Any]) -> list[str]:
        index = part.get("index") or 0
        if type(index) is not int:
            raise ValueError("index is no number")
        choice = self._choices.get(index)
        if choice is None:
            choice = self._choices[index] = {"index": index, "finish_reason": None, "logprobs": None}
            choice |= {"message": {"role": "assistant", "content": ""}} if self._chat else {"text": ""}
        if part.get("finish_reason") is not None:
            choice["finish_reason"] = part["finish_reason"]
        if isinstance(part.get("logprobs"), dict):
            choice["logprobs"] = _joined(choice["logprobs"] or {}, part["logprobs"])
        more: Any = part.get("delta") if self._chat else part
        longer = []
        for name in _PIECES if self._chat else ("text",):
            piece = more.get(name) if isinstance(more, Mapping) else None
            if isinstance(piece, str) and piece:
                self._texts.setdefault((index, name), []).append(piece)
                longer.append(self._longer(index, name, piece))
        if tokens := spelled(probabilities(part.get("logprobs"))):
            longer.append(self._longer(index, "logprobs", tokens))
        return longer

    def _longer(self, index: int, name: str, piece: str) -> str:
        """How a text ends with this piece, the end of what came before included."""
        found = self._ends.get((index, name), "") + piece
        self._ends[index, name] = found[-_END:]
        return found


def _joined(known: dict[str, Any], more: Mapping[str, Any]) -> dict[str, Any]:
    """Log-probabilities are lists, one entry per token, in both shapes."""
    for name, value in more.items():
        if isinstance(value, list):
            if not isinstance(known.get(name), list):
                known[name] = []
            known[name].extend(value)
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
    try:
        line = json.dumps(content, ensure_ascii=False, separators=(",", ":")).encode()
    except UnicodeEncodeError:
        # a server may cut an emoji in two; its other half comes with the next event
        line = json.dumps(content, separators=(",", ":")).encode()
    return b"data: " + line + b"\n\n"

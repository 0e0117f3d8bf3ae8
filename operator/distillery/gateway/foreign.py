"""Words from outside: what a teacher, a server between or a library says may repeat the key that it was sent. Pure.

In words that are shown (errors, logs, the status) every piece of a key of 8 characters or more is taken out, in any of the forms in which
keys come back: as it is, in base64, per cent. A few words too many hidden do no harm there.

An answer that repeats a key is not kept, which costs what was paid for it, so pieces count in answers only where chance cannot have written
them: the whole key, if it is 8 characters or more and not one plain word ("password"); or 8 characters of what follows its public prefix
(sk-proj-, the header of a JWT) in which two of capitals, small letters and digits meet. A key of "EMPTY" so never spoils an answer.
"""

from __future__ import annotations

import json
import re
import sys
from base64 import b64encode, urlsafe_b64encode
from collections.abc import Callable, Iterable, Iterator
from functools import lru_cache
from typing import Final
from urllib.parse import quote

#: Foreign words are shown in at most so many characters.
MOST: Final = 200
_PIECE: Final = 8
_BLOCK: Final = 4
_HIDDEN: Final = "[hidden]"
#: What is a secret by its place or its look, whosever it is.
_BEARER: Final = re.compile(r"(?i)\b(bearer|basic)\s+[^\s\"',;]+")
_NAMED: Final = re.compile(r"(?i)\b(authorization|(?:x-)?api[-_ ]?key)(\\?[\"']?\s*[:=]\s*\\?[\"']?)(?!bearer|basic)[^\s\"',;\\]+")
_LIKELY: Final = re.compile(r"\b(?:sk|pk|rk|gsk|xai|hf|nvapi)[-_][A-Za-z0-9_*.-]{6,}")
_UNSEEN: Final = re.compile(r"[\x00-\x1f\x7f-\x9f\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ud800-\udfff]+")
#: What everybody knows of keys: names in front of them, the first parts of a JWT, and what OpenAI writes into the middle of each.
_PUBLIC: Final = re.compile(r"(?:[A-Za-z0-9_-]+\.)+|(?:[a-z]{1,8}\d{0,2}[-_])+")
_KNOWN: Final = (b"T3BlbkFJ",)
_LEAST_SECRET: Final = 16


class Pieces:
    """Byte strings of one length or more, found in texts of any size in one pass: a piece holds a whole aligned block of four bytes."""

    def __init__(self, pieces: Iterable[bytes]) -> None:
        self._by_block: dict[int, list[tuple[int, bytes]]] = {}
        for piece in set(pieces):
            for at in range(_BLOCK):
                block = int.from_bytes(piece[at : at + _BLOCK], sys.byteorder)
                self._by_block.setdefault(block, []).append((at, piece))
        self._blocks = frozenset(self._by_block)

    def within(self, text: bytes) -> bool:
        """Whether one of them is there."""
        return next(self.spans(text), None) is not None

    def spans(self, text: bytes) -> Iterator[tuple[int, int]]:
        """Where they are."""
        blocks = memoryview(text)[: len(text) // _BLOCK * _BLOCK].cast("I")
        if self._blocks.isdisjoint(blocks):
            return
        for number, block in enumerate(blocks):
            for at, piece in self._by_block.get(block, ()):
                begin = number * _BLOCK - at
                if begin >= 0 and text.startswith(piece, begin):
                    yield begin, begin + len(piece)


class Secret:
    """One key, and what it looks like wherever it may turn up. None: no key was sent."""

    def __init__(self, key: str | None) -> None:
        self._short = key.lower().encode() if key and _BLOCK <= len(key) < _PIECE else None
        key = key if key and len(key) >= _PIECE else ""
        self._anywhere = Pieces(piece.lower() for piece in _forms(key.encode(), lambda _: True))
        public = _PUBLIC.match(key)
        rest = key[public.end() :] if public else key
        telling = _forms((rest if len(rest) >= _LEAST_SECRET else key).encode(), _telling)
        plain = key.isalpha() and (key.islower() or key.isupper()) and len(key) < _LEAST_SECRET
        self._in_answers = Pieces([*telling, *([] if plain or not key else [key.encode()])])
        self.longest: Final = max(len(key), 3 * _PIECE)
        """Bytes of the longest stretch that says it."""

    def repeated_in(self, answer: bytes) -> bool:
        """Whether an answer holds it, so that it must not be kept."""
        return self._in_answers.within(answer)

    def hidden(self, text: str) -> str:
        """`text` without the key, as long as it is."""
        data = text.encode(errors="replace")
        low = data.lower()
        spans = list(self._anywhere.spans(low))
        if self._short is not None:
            spans += [(found.start(), found.end()) for found in re.finditer(re.escape(self._short), low)]
        if spans:
            data = _without(data, sorted(spans))
        return hide_likely(data.decode(errors="replace"))

    def shown(self, words: object) -> str:
        """Foreign words as they may be shown: in one line, bounded, without the key."""
        line = _UNSEEN.sub(" ", str(words)[: 8 * MOST])
        found = self.hidden(line).strip()
        return found if len(found) <= MOST else f"{found[: MOST - 1]}…"


@lru_cache(256)
def secret(key: str | None) -> Secret:
    """Of a key; made once."""
    return Secret(key)


def hide_likely(text: str) -> str:
    """Without what looks like anybody's key."""
    text = _BEARER.sub(rf"\1 {_HIDDEN}", text)
    return _LIKELY.sub(_HIDDEN, _NAMED.sub(rf"\1\2{_HIDDEN}", text))


def _telling(piece: bytes) -> bool:
    kinds = (any(map(test, map(chr, piece))) for test in (str.islower, str.isupper, str.isdigit))
    return sum(kinds) >= 2 and piece not in _KNOWN


def _forms(key: bytes, counts: Callable[[bytes], bool]) -> Iterator[bytes]:
    """Pieces of a key in each of its forms; those of eight characters that `counts` says no to are left out."""
    for at in range(len(key) - _PIECE + 1):
        piece = key[at : at + _PIECE]
        if counts(piece):
            yield piece
            yield b"".join(b"%%%02X" % byte for byte in piece)
            yield b"".join(b"%%%02x" % byte for byte in piece)
    if not key:
        return
    quoted, escaped = quote(key, safe="").encode(), json.dumps(key.decode()).encode()[1:-1]
    # per cent; and as JSON writes quotes, backslashes and, by some, slashes
    for encoded in {quoted, quoted.lower(), escaped, escaped.replace(b"/", b"\\/")} - {key}:
        yield from (piece for piece in _cut(encoded) if counts(piece))
    for before in range(3):
        # what stands before it moves the letters; those that it shares with its neighbours are left out
        first, last = -(-before * 4 // 3), (before + len(key)) * 4 // 3
        for encode in (b64encode, urlsafe_b64encode):
            yield from (piece for piece in _cut(encode(bytes(before) + key)[first:last]) if counts(piece))


def _cut(text: bytes) -> Iterator[bytes]:
    return (text[at : at + _PIECE] for at in range(len(text) - _PIECE + 1))


def _without(data: bytes, spans: list[tuple[int, int]]) -> bytes:
    """The rest, with one mark for each stretch."""
    parts, end = list[bytes](), 0
    for begin, until in spans:
        if begin > end or not parts:
            parts += [data[end:begin], _HIDDEN.encode()]
        end = max(end, until)
    return b"".join([*parts, data[end:]])

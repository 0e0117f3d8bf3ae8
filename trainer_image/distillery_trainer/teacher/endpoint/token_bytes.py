"""Which bytes each token of a tokenizer stands for: how the tokens of an API, which are named by their text, are found again."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


class TokenBytes:
    """Bytes by id and id by bytes. `known` is False for tokenizers whose tokens lose bytes (WordPiece, Unigram without byte fallback)."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        backend: Any = tokenizer
        spec = json.loads(backend.backend_tokenizer.to_str())
        pieces = {index: piece for piece, index in backend.backend_tokenizer.get_vocab(with_added_tokens=False).items()}
        byte_level, fallback = "ByteLevel" in _kinds(spec.get("decoder")), bool(spec["model"].get("byte_fallback"))
        self.known = byte_level or fallback
        decode = _byte_level if byte_level else _fallback
        self._bytes: dict[int, bytes] = {index: decode(piece) for index, piece in pieces.items()} if self.known else {}
        #: Tokens that stand for no text of their own, by id; some servers print their name, some print nothing.
        self.special: dict[int, str] = {}
        for added in spec.get("added_tokens", ()):
            self._bytes[added["id"]] = added["content"].encode()
            if added["special"]:
                self.special[added["id"]] = added["content"]
        self._ids: dict[bytes, int] = {}
        # of several ids with the same bytes the one with the longest name is the byte's own (<0x41>), so the shortest name comes last
        for index in sorted(self._bytes, key=lambda index: (-len(pieces.get(index, "")), -index)):
            self._ids[self._bytes[index]] = index

    def of(self, index: int) -> bytes | None:
        """The bytes of an id; None if the tokenizer has no such id."""
        return self._bytes.get(index)

    def find(self, data: bytes) -> int | None:
        """The id of a token's bytes."""
        return self._ids.get(data)


def _kinds(decoder: Mapping[str, Any] | None) -> set[str]:
    if decoder is None:
        return set()
    return {str(decoder["type"])}.union(*(_kinds(part) for part in decoder.get("decoders", ())))


def _alphabet() -> dict[str, int]:
    """Byte-level BPE writes each byte as one printable character: itself if it is one, else the next free one from 256 on (GPT-2)."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in printable]
    return {chr(byte): byte for byte in printable} | {chr(256 + at): byte for at, byte in enumerate(others)}


_BYTES = _alphabet()


def _byte_level(piece: str) -> bytes:
    # a character outside the alphabet is in no text that was tokenized
    return bytes(_BYTES[character] for character in piece) if all(c in _BYTES for c in piece) else piece.encode()


def _fallback(piece: str) -> bytes:
    if len(piece) == 6 and piece.startswith("<0x") and piece.endswith(">"):
        return bytes([int(piece[3:5], 16)])
    return piece.replace("▁", " ").encode()

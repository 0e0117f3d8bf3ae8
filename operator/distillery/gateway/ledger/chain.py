"""The chain of entries: each holds the digest of the one before, so that no past entry can be changed unseen."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass

#: What the first entry follows.
GENESIS = "0" * 64
#: Of the entries that are written. 2: all that the tables say of holds, answers, jobs and the clock can be told from the entries; before,
#: how an answer ended, cache hits and the clock could not. A chain says with an entry of the kind `format` from where on it is so.
FORMAT = 2
_encode = json.JSONEncoder(sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode


@dataclass(frozen=True, slots=True)
class Entry:
    """A link: `body` is canonical JSON, with the sequence and the digest of the entry before in it; `digest` is its sha256."""

    sequence: int
    digest: str
    body: str

    def line(self) -> str:
        """As exported: the body and its digest, one JSON object."""
        return f'{{"digest":"{self.digest}","entry":{self.body}}}'


def link(sequence: int, previous: str, facts: Mapping[str, object]) -> Entry:
    """The entry after `previous`."""
    body = _encode({**facts, "sequence": sequence, "previous": previous})
    return Entry(sequence, digest_of(body), body)


def digest_of(body: str) -> str:
    """sha256 of an entry's canonical JSON."""
    return hashlib.sha256(body.encode()).hexdigest()


def parsed(line: str) -> tuple[str, dict[str, object], str]:
    """Digest, facts and body of an exported line; ValueError where it is none."""
    record = json.loads(line)
    if not isinstance(record, dict) or set(record) != {"digest", "entry"} or not isinstance(record["entry"], dict):
        raise ValueError("not a line of a ledger export: expected an object with 'digest' and 'entry'")
    return str(record["digest"]), record["entry"], _encode(record["entry"])

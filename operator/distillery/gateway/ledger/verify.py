"""Whether a ledger, or an export of it, is whole: its chain, its rules, and that its tables say what the chain says."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import Any

from sqlalchemy import Connection

from . import reading
from .audit import Audit
from .chain import Entry, parsed
from .contract import Head, LedgerError
from .replay import Replay


class Heads:
    """Ends of the chain that were told elsewhere before. Only they show that its end was cut off, or that all of it was written anew."""

    def __init__(self, heads: Sequence[Head]) -> None:
        self._heads = heads
        self._found: dict[int, str] = {}

    def pass_by(self, entry: Entry) -> None:
        """Remember what stands where a head was."""
        if any(head.sequence == entry.sequence for head in self._heads):
            self._found[entry.sequence] = entry.digest

    def missed(self, replay: Replay) -> None:
        """Note which of them are not in the chain."""
        for head in self._heads:
            found = self._found.get(head.sequence)
            if found is None and head.sequence > 0:
                replay.faults.append(f"the chain was cut off: it ends with entry {replay.sequence}, entry {head.sequence} was told before")
            elif found is not None and found != head.digest:
                replay.faults.append(f"the chain was rewritten: entry {head.sequence} has another digest than was told before")


def head_of(text: str) -> Head:
    """SEQUENCE:DIGEST, as a budget's `status.ledger` has them."""
    sequence, _, digest = text.partition(":")
    if not (sequence.isascii() and sequence.isdigit()) or len(digest) != 64:
        raise LedgerError(
            f"--head {text}: give SEQUENCE:DIGEST, as in status.ledger.sequence and status.ledger.headDigest of a TeacherBudget"
        )
    return Head(int(sequence), digest)


def exported(lines: Iterable[str], heads: Sequence[Head] = ()) -> Replay:
    """Check the lines of an export from the first entry on."""
    replay, known = Replay(), Heads(heads)
    for line in lines:
        digest, facts, body = parsed(line)
        entry = Entry(int(str(facts.get("sequence", 0))), digest, body)
        replay.read(entry, facts)
        known.pass_by(entry)
    known.missed(replay)
    return replay


def stored(connection: Connection, heads: Sequence[Head] = ()) -> Replay:
    """Check a ledger's entries, and that its tables say what the entries say. Reads all in the caller's transaction.

    What has ended is compared as it is read and then forgotten, so memory grows by a number for each answer and no more.
    """
    audit, known = Audit(connection), Heads(heads)
    for entry in reading.entries(connection, 0):
        audit.replay.read(entry, _facts(entry))
        known.pass_by(entry)
    audit.close()
    known.missed(audit.replay)
    return audit.replay


def _facts(entry: Entry) -> dict[str, Any]:
    """Of an entry whose body is none, its digest tells."""
    try:
        facts = json.loads(entry.body)
    except (ValueError, RecursionError):
        return {}
    return facts if isinstance(facts, dict) else {}

"""An auditor's view: the chain read from its first entry, every rule checked again, every balance computed anew."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from .chain import GENESIS, Entry, digest_of

_BUCKETS = ("settled", "held", "reserved", "in_doubt", "overrun")
#: Which holds an entry may end, by the bucket that they are in.
_ENDS = {"settle": ("held", "in_doubt"), "release": ("held",), "doubt": ("held",)}


@dataclass(slots=True)
class Balance:
    """One account as the entries tell it."""

    unit: str
    limit: int | None
    amounts: dict[str, int] = field(default_factory=lambda: dict.fromkeys(_BUCKETS, 0))


@dataclass(slots=True)
class Replay:
    """Feed it entries in order; `faults` are sentences about what is wrong."""

    sequence: int = 0
    digest: str = GENESIS
    accounts: dict[int, Balance] = field(default_factory=dict)
    holds: dict[str, tuple[str, int, int]] = field(default_factory=dict)
    """Open holds: the bucket they are in, and their amounts."""
    faults: list[str] = field(default_factory=list)

    def read(self, entry: Entry, facts: dict[str, Any]) -> None:
        """Check an entry against all before it and book it."""
        self._chained(entry, facts)
        kind = str(facts.get("kind"))
        if kind == "account":
            self.accounts[facts["account"]] = Balance(facts["unit"], facts["limit"])
        elif kind == "limit" and facts["account"] in self.accounts:
            self.accounts[facts["account"]].limit = facts["limit"]
        elif "moves" in facts:
            self._moved(kind, facts)
            if kind in ("hold", *_ENDS):
                self._hold(kind, facts)

    def _chained(self, entry: Entry, facts: dict[str, Any]) -> None:
        if not facts.get("sequence") == entry.sequence == self.sequence + 1:
            self.faults.append(f"entry {entry.sequence} follows entry {self.sequence}")
        if facts.get("previous") != self.digest:
            self.faults.append(f"entry {entry.sequence} holds another digest than that of the entry before it")
        if digest_of(entry.body) != entry.digest:
            self.faults.append(f"entry {entry.sequence} was changed: its digest does not fit")
        self.sequence, self.digest = entry.sequence, entry.digest

    def _moved(self, kind: str, facts: dict[str, Any]) -> None:
        """Move between buckets; after a grant nothing may be over its limit (I1), and no bucket is ever below nothing."""
        grants = kind == "hold" or any(move[:2] == ["free", "reserved"] for move in facts["moves"])
        for number in facts["accounts"]:
            account = self.accounts.get(number)
            if account is None:
                self.faults.append(f"entry {self.sequence}: account {number} was never opened")
                continue
            for source, target, usd, tokens in facts["moves"]:
                amount = usd if account.unit == "USD" else tokens
                for bucket, change in ((source, -amount), (target, amount)):
                    if bucket != "free":
                        account.amounts[bucket] += change
            used, lowest = sum(account.amounts.values()), min(account.amounts.values())
            if lowest < 0:
                self.faults.append(f"entry {self.sequence}: account {number} has a bucket below zero")
            if grants and account.limit is not None and used > account.limit:
                self.faults.append(f"entry {self.sequence}: account {number} granted {used} of {account.limit}")

    def _hold(self, kind: str, facts: dict[str, Any]) -> None:
        """Every hold is made once and ends once (I3), with all of its amount."""
        number = facts["hold"]
        if kind == "hold":
            if number in self.holds:
                self.faults.append(f"entry {self.sequence}: hold {number} was made before")
            self.holds[number] = ("held", *_sums(move for move in facts["moves"] if move[1] == "held"))
            return
        bucket, usd, tokens = self.holds.pop(number, ("", 0, 0))
        if bucket not in _ENDS[kind]:
            self.faults.append(f"entry {self.sequence}: hold {number} is not open, it cannot {kind}")
        if (usd, tokens) != _sums(move for move in facts["moves"] if move[0] == bucket):
            self.faults.append(f"entry {self.sequence}: hold {number} ends with another amount than it was made with")
        if kind == "doubt":
            self.holds[number] = ("in_doubt", usd, tokens)


def _sums(moves: Iterable[list[Any]]) -> tuple[int, int]:
    found = list(moves)
    return sum(move[2] for move in found), sum(move[3] for move in found)


def replayed(entries: Iterable[tuple[Entry, dict[str, Any]]]) -> Replay:
    """All entries."""
    replay = Replay()
    for entry, facts in entries:
        replay.read(entry, facts)
    return replay

"""An auditor's view: the chain read from its first entry, every rule checked again, every balance, hold and job computed anew."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from .chain import FORMAT, GENESIS, Entry, digest_of
from .resolving import Bill
from .rows import HoldRow, JobRow

_BUCKETS = ("settled", "held", "reserved", "in_doubt", "overrun")
#: Which holds an entry may end, and the bucket that a hold is in.
_ENDS = {"settle": ("dispatched", "inDoubt"), "release": ("dispatched",), "doubt": ("dispatched",), "resolve": ("inDoubt",)}
_BUCKET_OF = {"dispatched": "held", "inDoubt": "in_doubt"}

Facts = dict[str, Any]


@dataclass(slots=True)
class Balance:
    """One account as the entries tell it."""

    budget: str
    window: str
    period: str
    unit: str
    limit: int | None
    amounts: dict[str, int] = field(default_factory=lambda: dict.fromkeys(_BUCKETS, 0))


@dataclass(slots=True)
class Told:
    """A hold as the entries tell it; they name neither its reservation nor the gateway that made it."""

    row: HoldRow
    job: JobRow
    accounts: tuple[int, ...]


class Listener(Protocol):
    """Who compares what has its last word in the chain with something else; only what may change yet is kept here."""

    def ended(self, hold: Told) -> None:
        """Settled or released: no later entry is about it."""

    def answered(self, key: str, hold: str, digest: str, finish: str | None, at: str) -> None:
        """An answer was paid for, and kept if it was the first of its key. Older entries do not tell how it ended."""

    def forgotten(self, key: str) -> None:
        """It was dropped."""


@dataclass(slots=True)
class Replay:
    """Feed it entries in order; `faults` are sentences about what is wrong."""

    listener: Listener | None = None
    sequence: int = 0
    digest: str = GENESIS
    format: int = 1
    clock: str = ""
    """Told since format 2."""
    accounts: dict[int, Balance] = field(default_factory=dict)
    holds: dict[str, Told] = field(default_factory=dict)
    """Open ones."""
    jobs: dict[tuple[str, str], JobRow] = field(default_factory=dict)
    reserved: dict[tuple[str, str], list[int]] = field(default_factory=dict)
    """What is set aside for a job, in nano-dollars and tokens."""
    faults: list[str] = field(default_factory=list)

    def read(self, entry: Entry, facts: Facts) -> None:
        """Check an entry against all before it and book it."""
        self._chained(entry, facts)
        try:
            self._told(str(facts.get("kind")), facts)
        except (LookupError, TypeError, ValueError, AttributeError) as error:
            self.faults.append(f"entry {self.sequence} is none that this program writes: {type(error).__name__} {error}")

    def _chained(self, entry: Entry, facts: Facts) -> None:
        if not facts.get("sequence") == entry.sequence == self.sequence + 1:
            self.faults.append(f"entry {entry.sequence} follows entry {self.sequence}")
        if facts.get("previous") != self.digest:
            self.faults.append(f"entry {entry.sequence} holds another digest than that of the entry before it")
        if digest_of(entry.body) != entry.digest:
            self.faults.append(f"entry {entry.sequence} was changed: its digest does not fit")
        self.sequence, self.digest = entry.sequence, entry.digest

    def _told(self, kind: str, facts: Facts) -> None:
        if kind in _SINGLE:
            _SINGLE[kind](self, facts)
        elif "moves" in facts:
            self._moved(kind, facts)
            if kind == "hold":
                self._held(facts)
            elif kind in _ENDS:
                self._ended(kind, facts)
            if "job" in facts:
                self._set_aside(facts)

    def _account(self, facts: Facts) -> None:
        name = (facts["budget"], facts["window"], facts["period"], facts["unit"])
        self.accounts[facts["account"]] = Balance(*name, facts["limit"])

    def _limit(self, facts: Facts) -> None:
        self.accounts[facts["account"]].limit = facts["limit"]

    def _format(self, facts: Facts) -> None:
        self.format, self.clock = int(facts["format"]), facts["clock"]
        if self.format > FORMAT:
            self.faults.append(f"entry {self.sequence}: format {self.format} follows, this program knows {FORMAT}: use the newer image")

    def _day(self, facts: Facts) -> None:
        self.clock = str(facts["day"])

    def _hits(self, facts: Facts) -> None:
        job = self._job(facts["budget"], facts["job"])
        job.hits, job.saved = job.hits + facts["count"], job.saved + facts["saved"]

    def _forget(self, facts: Facts) -> None:
        if self.listener is not None:
            self.listener.forgotten(facts["request"])

    def _job(self, budget: str, uid: str) -> JobRow:
        return self.jobs.setdefault((budget, uid), JobRow(budget, uid))

    def _moved(self, kind: str, facts: Facts) -> None:
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

    def _set_aside(self, facts: Facts) -> None:
        budget = self.accounts[facts["accounts"][0]].budget
        amounts = self.reserved.setdefault((budget, facts["job"]), [0, 0])
        for source, target, *moved in facts["moves"]:
            sign = (target == "reserved") - (source == "reserved")
            for unit in (0, 1):
                amounts[unit] += sign * moved[unit]

    def _held(self, facts: Facts) -> None:
        """Every hold is made once (I3)."""
        number, accounts = facts["hold"], tuple(facts["accounts"])
        if number in self.holds:
            self.faults.append(f"entry {self.sequence}: hold {number} was made before")
        amount, tokens = _sums(move for move in facts["moves"] if move[1] == "held")
        named = (facts["teacher"], facts["request"], facts["terms"], facts["prices"])
        job = self._job(self.accounts[accounts[0]].budget, facts["job"])
        self.holds[number] = Told(HoldRow(number, 0, "dispatched", amount, tokens, *named, 0, facts["at"]), job, accounts)
        job.requests, job.held = job.requests + 1, job.held + amount

    def _ended(self, kind: str, facts: Facts) -> None:
        """A hold ends once (I3), with all of its amount, in the accounts and for the job that it was made for."""
        told = self.holds.get(facts["hold"])
        if told is None or told.row.state not in _ENDS[kind]:
            self.faults.append(f"entry {self.sequence}: hold {facts['hold']} is not open, it cannot {kind}")
            return
        row, job = told.row, told.job
        bucket = _BUCKET_OF[row.state]
        if (row.amount, row.tokens) != _sums(move for move in facts["moves"] if move[0] == bucket):
            self.faults.append(f"entry {self.sequence}: hold {row.id} ends with another amount than it was made with")
        if (told.accounts, job.uid) != (tuple(facts["accounts"]), facts["job"]):
            self.faults.append(f"entry {self.sequence}: hold {row.id} ends on another account than it was made on")
        row.status, row.request_id = facts.get("status", row.status), facts.get("requestId", row.request_id)
        if "billed" in facts:
            self._billed(told, facts)
            if kind == "settle":
                job.answers, job.total, job.squares = job.answers + 1, job.total + row.billed, job.squares + float(row.billed) ** 2
        elif kind == "doubt":
            job.held, job.in_doubt = job.held - row.amount, job.in_doubt + row.amount
            row.state, row.why = "inDoubt", facts["why"]
            return
        else:
            setattr(job, bucket, getattr(job, bucket) - row.amount)
            job.requests -= 1
            row.state, row.resolved_at = "released", facts["at"]
            row.why = facts["why"] if kind == "release" else row.why
        del self.holds[row.id]
        if self.listener is not None:
            self.listener.ended(told)
            if "answer" in facts:
                key = facts.get("key", row.request_key)
                self.listener.answered(key, row.id, facts["answer"], facts.get("finish"), facts["at"])

    def _billed(self, told: Told, facts: Facts) -> None:
        row, job = told.row, told.job
        bill = Bill(facts["billed"], facts["input"], facts["output"])
        result = bill.against(row)
        moved = {target: _sums(move for move in facts["moves"] if move[1] == target) for target in ("settled", "overrun")}
        paid_tokens = bill.tokens_in + bill.tokens_out - result.overrun_tokens
        if moved != {"settled": (result.paid, paid_tokens), "overrun": (result.overrun, result.overrun_tokens)}:
            self.faults.append(f"entry {self.sequence}: hold {row.id} moves another amount than was billed")
        bucket = _BUCKET_OF[row.state]
        setattr(job, bucket, getattr(job, bucket) - row.amount)
        job.settled, job.overrun = job.settled + result.paid, job.overrun + result.overrun
        job.tokens_in, job.tokens_out = job.tokens_in + bill.tokens_in, job.tokens_out + bill.tokens_out
        row.state, row.resolved_at = "settled", facts["at"]
        row.billed, row.tokens_in, row.tokens_out = bill.amount, bill.tokens_in, bill.tokens_out


#: Entries that move no money.
_SINGLE: Mapping[str, Callable[[Replay, Facts], None]] = {
    "account": Replay._account, "limit": Replay._limit, "format": Replay._format, "day": Replay._day, "clock": Replay._day,
    "hits": Replay._hits, "forget": Replay._forget,
}  # fmt: skip


def _sums(moves: Iterable[list[Any]]) -> tuple[int, int]:
    found = list(moves)
    return sum(move[2] for move in found), sum(move[3] for move in found)

"""Whether the tables say what the chain says: every account, hold, answer, job and reservation, and the head."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, bindparam, func, select

from . import schema
from .reading import intact
from .replay import Replay, Told
from .rows import JobRow

#: Rows that are looked up at once; of bodies, which may be long, only a few are fetched.
_CHUNK, _LONG_CHUNK = 500, 16
_OF_HOLD = (
    "state", "amount", "tokens", "teacher", "request_key", "terms", "prices", "at", "billed", "tokens_in", "tokens_out",
    "resolved_at", "why", "status", "request_id",
)  # fmt: skip
_OF_JOB = ("requests", "tokens_in", "tokens_out", "settled", "held", "in_doubt", "overrun", "answers", "total", "squares")
#: Cache hits are in the chain since format 2.
_OF_JOB_SINCE_2 = ("hits", "saved")

_owners = schema.reservations.c
_HOLDS = (
    select(schema.holds, _owners.budget, _owners.uid, _owners.accounts)
    .outerjoin(schema.reservations, _owners.id == schema.holds.c.reservation)
    .where(schema.holds.c.id.in_(bindparam("ids", expanding=True)))
)
_answers = schema.answers.c
_ANSWERS = select(_answers.key, _answers.hold, _answers.digest, _answers.finish, _answers.at).where(
    _answers.key.in_(bindparam("keys", expanding=True))
)
_BODIES = select(_answers.key, _answers.digest, _answers.body, _answers.location).execution_options(yield_per=_LONG_CHUNK)
_RESERVED = select(_owners.budget, _owners.uid, func.sum(_owners.amount), func.sum(_owners.tokens)).group_by(_owners.budget, _owners.uid)


@dataclass(frozen=True, slots=True)
class _Paid:
    """An answer as an entry tells it."""

    key: str
    hold: str
    digest: str
    finish: str | None
    at: str


class Audit:
    """Listens to a replay and looks each thing up when its last word is said."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self.replay = Replay(self)
        self._ended: list[Told] = []
        self._paid: list[_Paid] = []
        self._holds = 0
        self._kept: set[int] = set()
        """Hashes of the keys of answers that are in the table as they were paid for: a number each, for there may be millions."""
        self._missing: dict[str, str] = {}
        """Answers that are not, and the holds that bought them: an entry may tell yet that they were forgotten."""

    def ended(self, hold: Told) -> None:
        """Look it up with others."""
        self._ended.append(hold)
        if len(self._ended) == _CHUNK:
            self._look_up()

    def answered(self, key: str, hold: str, digest: str, finish: str | None, at: str) -> None:
        """Look it up with others."""
        self._paid.append(_Paid(key, hold, digest, finish, at))

    def forgotten(self, key: str) -> None:
        """It is bought again, or gone."""
        self._look_up()
        self._missing.pop(key, None)
        if hash(key) in self._kept:
            self._fault(f"answer {key} was forgotten, and is in the table as it was before")

    def close(self) -> None:
        """All entries are read: look up what is open, and what is counted."""
        self._look_up()
        for key, hold in self._missing.items():
            self._fault(f"answer {key}, which hold {hold} bought, is gone or another one is in its place")
        self._compare_holds(list(self.replay.holds.values()))
        found = self._connection.execute(select(func.count()).select_from(schema.holds)).scalar_one()
        if found != self._holds:
            self._fault(f"the table has {found} holds, the entries tell of {self._holds}")
        self._compare_bodies()
        self._compare_accounts()
        self._compare_jobs()
        self._compare_head()

    def _fault(self, sentence: str) -> None:
        self.replay.faults.append(sentence)

    def _look_up(self) -> None:
        ended, paid = self._ended, self._paid
        self._ended, self._paid = [], []
        self._compare_holds(ended)
        self._compare_answers(paid)

    def _compare_holds(self, told: Sequence[Told]) -> None:
        self._holds += len(told)
        for at in range(0, len(told), _CHUNK):
            chunk = told[at : at + _CHUNK]
            rows = {row.id: row for row in self._connection.execute(_HOLDS, {"ids": [hold.row.id for hold in chunk]})}
            for hold in chunk:
                self._compare_hold(hold, rows.get(hold.row.id))

    def _compare_hold(self, told: Told, row: Any) -> None:
        if row is None:
            self._fault(f"hold {told.row.id} is gone from the table")
            return
        wrong = [name for name in _OF_HOLD if getattr(row, name) != getattr(told.row, name)]
        if (row.budget, row.uid, row.accounts) != (told.job.budget, told.job.uid, ",".join(map(str, told.accounts))):
            wrong.append("reservation")
        if wrong:
            self._fault(f"hold {told.row.id} differs from its entries in {', '.join(wrong)}")

    def _compare_answers(self, paid: Sequence[_Paid]) -> None:
        """The first of a key is kept; what others of this key bought in the meantime is not."""
        if not paid:
            return
        rows = {row.key: row for row in self._connection.execute(_ANSWERS, {"keys": [answer.key for answer in paid]})}
        for answer in paid:
            row = rows.get(answer.key)
            if row is None or row.hold != answer.hold:
                if hash(answer.key) not in self._kept:
                    self._missing.setdefault(answer.key, answer.hold)
                continue
            self._kept.add(hash(answer.key))
            told = {"digest": answer.digest, "finish": answer.finish or row.finish, "at": answer.at}
            if wrong := [name for name, value in told.items() if getattr(row, name) != value]:
                self._fault(f"answer {answer.key} differs from its entries in {', '.join(wrong)}")

    def _compare_bodies(self) -> None:
        """Those that were moved to the object store are checked each time they are fetched."""
        for key, digest, body, location in self._connection.execute(_BODIES):
            if hash(key) not in self._kept:
                self._fault(f"answer {key} is in the table as no entry tells it")
            if location is None and (body is None or intact(body, digest) is None):
                self._fault(f"answer {key} is damaged: its body has another digest")

    def _compare_accounts(self) -> None:
        rows = {row.id: row for row in self._connection.execute(select(schema.accounts))}
        accounts = self.replay.accounts
        for number in sorted(rows.keys() ^ accounts.keys()):
            self._fault(f"account {number} is only in {'the table' if number in rows else 'the chain'}")
        for number in sorted(rows.keys() & accounts.keys()):
            row, told = rows[number], accounts[number]
            found = {"budget": row.budget, "window": row.span, "period": row.period, "unit": row.unit, "limit": row.bound}
            expected = {name: getattr(told, name) for name in found} | told.amounts
            if expected != found | {bucket: getattr(row, bucket) for bucket in told.amounts}:
                self._fault(f"account {number} ({told.budget} {told.window} {told.period} {told.unit}) differs from its entries")

    def _compare_jobs(self) -> None:
        rows = {(row.budget, row.uid): row for row in self._connection.execute(select(schema.jobs))}
        reserved = {(budget, uid): [int(amount), int(tokens)] for budget, uid, amount, tokens in self._connection.execute(_RESERVED)}
        names = _OF_JOB if self.replay.format == 1 else (*_OF_JOB, *_OF_JOB_SINCE_2)
        for key in sorted(rows.keys() | self.replay.jobs.keys()):
            told = self.replay.jobs.get(key) or JobRow(*key)
            row = rows.get(key)
            if row is None:
                self._fault(f"job {key[1]} of budget {key[0]} is gone from the table")
            elif wrong := [name for name in names if getattr(row, name) != getattr(told, name)]:
                self._fault(f"job {key[1]} of budget {key[0]} differs from its entries in {', '.join(wrong)}")
        for budget, uid in sorted(reserved.keys() | self.replay.reserved.keys()):
            if reserved.get((budget, uid), [0, 0]) != self.replay.reserved.get((budget, uid), [0, 0]):
                self._fault(f"job {uid} of budget {budget} has another amount set aside than its entries tell")

    def _compare_head(self) -> None:
        head, replay = self._connection.execute(select(schema.head)).one(), self.replay
        if (head.sequence, head.digest) != (replay.sequence, replay.digest):
            self._fault(f"the head says entry {head.sequence}, the chain ends with {replay.sequence}")
        if replay.format > 1 and head.clock != replay.clock:
            self._fault(f"the clock stands at {head.clock or 'nothing'}, by the entries at {replay.clock or 'nothing'}")
        if replay.sequence and head.format != replay.format:
            self._fault(f"the head says format {head.format}, the entries are of format {replay.format}")
        if head.next_account != len(replay.accounts) + 1:
            self._fault(f"the next account is to be number {head.next_account}, there are {len(replay.accounts)}")

"""Processes that spend from one ledger and are killed, and what has to be true of it afterwards."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import threading
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from sqlalchemy import text

from distillery.gateway.ledger import database, verify

CLIENT = Path(__file__).with_name("client.py")


@dataclass
class Told:
    """What the processes said before they died."""

    want: set[str] = field(default_factory=set)
    sent: dict[str, int] = field(default_factory=dict)
    paid: dict[str, int] = field(default_factory=dict)
    released: set[str] = field(default_factory=set)
    doubt: set[str] = field(default_factory=set)
    refused: set[str] = field(default_factory=set)

    def hear(self, line: str) -> None:
        """One line of a client."""
        word, number, amount = line.split()
        book = getattr(self, word)
        if isinstance(book, dict):
            book[number] = int(amount)
        else:
            book.add(number)


class Gateway:
    """A running client process; a thread keeps what it says."""

    def __init__(self, url: str, clients: int, limits: dict[str, int], seed: int, told: Told) -> None:
        command = [sys.executable, str(CLIENT), url, str(clients), json.dumps(limits), str(seed)]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env={**os.environ, "PYTHONPATH": "operator"})
        self.heard = 0
        self._enough = threading.Condition()
        self._thread = threading.Thread(target=self._listen, args=(told,))
        self._thread.start()

    def _listen(self, told: Told) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            told.hear(line)
            with self._enough:
                self.heard += 1
                self._enough.notify_all()
        with self._enough:
            self.heard = sys.maxsize
            self._enough.notify_all()

    def kill_after(self, lines: int) -> None:
        """SIGKILL once it has said so much, or is done."""
        self.hear(lines)
        self.process.send_signal(signal.SIGKILL)
        self.wait()

    def hear(self, lines: int) -> None:
        """Wait until it has said so much, or is done."""
        with self._enough:
            assert self._enough.wait_for(lambda: self.heard >= lines, timeout=120), "the client says nothing"

    def wait(self) -> int:
        """Its exit status, when all that it said is heard."""
        self._thread.join(120)
        return self.process.wait(120)


def kills(url: str, clients: int, limits: dict[str, int], times: int, seed: int) -> Told:
    """Start, kill, start again; the last one may end by itself."""
    told, rolls = Told(), random.Random(seed)
    for life in range(times):
        Gateway(url, clients, limits, seed + life, told).kill_after(rolls.randint(20, 600))
    assert Gateway(url, clients, limits, seed + times, told).wait() == 0
    return told


def holds_true(url: str, told: Told, limits: dict[str, int]) -> dict[str, object]:
    """I1 to I4 by what was said, by the tables and by the chain; figures for the report."""
    engine = database.connect(url)
    with engine.begin() as connection:
        states = {row.id: row for row in connection.execute(text("SELECT id, state, amount, billed FROM holds"))}
        replay = verify.stored(connection)
        totals = connection.execute(
            text("SELECT settled, held, reserved, in_doubt, overrun FROM accounts WHERE span = 'total' AND unit = 'USD'")
        ).one()
        answers = set(connection.execute(text("SELECT key FROM answers")).scalars())
        jobs = connection.execute(text("SELECT settled + held + in_doubt + reserved FROM accounts WHERE span='perJob' AND unit='USD'"))
        most = max(jobs.scalars())
    engine.dispose()
    assert replay.faults == []
    assert sum(map(int, totals)) <= limits["total"], "I1"
    assert most <= limits["perJob"], "I1"
    assert set(told.sent) <= set(states), "I4: whatever was sent has a hold"
    assert set(states) <= told.want, "no hold from nowhere"
    assert {number: states[number].amount for number in told.sent} == told.sent, "at its worst case"
    assert {number: states[number].billed for number in told.paid} == told.paid, "what was told to be paid is paid"
    assert set(told.paid) <= answers, "an answer that was paid is there"
    assert all(states[number].state == "released" for number in told.released)
    assert all(states[number].state == "inDoubt" for number in told.doubt)
    assert not told.refused & set(states), "I3: a refused hold is none"
    by_state = Counter(row.state for row in states.values())
    return {"holds": len(states), **by_state, "entries": replay.sequence, "used": sum(map(int, totals)), "limit": limits["total"]}

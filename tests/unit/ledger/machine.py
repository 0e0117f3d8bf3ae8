"""A ledger driven at random, killed at random points, opened again, and compared with the model after every step."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any
from unittest.mock import patch

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from sqlalchemy import event
from tests.unit.ledger.model import Model
from tests.unit.ledger.wallet import Wallet

from distillery.gateway.ledger import Account, Hold, HoldResolved, Need, Refusal, Why, committing, database, reading, verify
from distillery.gateway.ledger.decisions import Resolve
from distillery.gateway.ledger.operation import Operation
from distillery.gateway.ledger.resolving import Doubt, Release, Settle
from distillery.gateway.ledger.spending import GiveBack, Place, Reserve
from distillery.gateway.ledger.statements import Cursor
from distillery.gateway.ledger.upkeep import Sweep
from distillery.gateway.ledger.windows import not_before

START = datetime(2026, 11, 29, 22, tzinfo=UTC)
AMOUNTS = st.sampled_from([0, 1, 7, 20, 33, 60])
LIMITS = st.integers(50, 600)
JOBS = st.sampled_from(["job-1", "job-2", "job-3"])
WINDOWS = st.sampled_from(["perJob", "daily", "monthly", "total"])
ENDS = st.sampled_from(["settle", "release", "doubt", "billed", "not-billed"])
#: Where the process dies: at the n-th statement of the transaction, just before its commit, or after it and before the reply.
DEATHS = st.sampled_from([None] * 32 + ["commit", "reply", *range(1, 20)])


class Killed(Exception):
    """The process died here."""


class LedgerMachine(RuleBasedStateMachine):
    """Subclasses say where the database is."""

    def url(self) -> str:
        """Of an empty database."""
        raise NotImplementedError

    @initialize(usd=st.dictionaries(WINDOWS, LIMITS, min_size=1), tokens=st.dictionaries(WINDOWS, LIMITS, max_size=1))
    def start(self, usd: dict[Any, int], tokens: dict[Any, int]) -> None:
        """An empty ledger, and a budget."""
        self.address, self.now, self.model = self.url(), START, Model()
        self.wallet = Wallet(usd=usd, tokens=tokens)
        self._open()

    @rule(amounts=st.lists(st.tuples(JOBS, AMOUNTS, AMOUNTS), min_size=2, max_size=8), death=DEATHS)
    def hold(self, amounts: list[tuple[str, int, int]], death: int | str | None) -> None:
        """Requests of several jobs in one batch; each is granted or refused for itself."""
        holds = [self.wallet.hold(amount, tokens, self.now, uid) for uid, amount, tokens in amounts]
        outcomes = self._commit([Place(hold) for hold in holds], death)
        if outcomes is None:
            self._learn(holds)
            return
        for hold, outcome in zip(holds, outcomes, strict=True):
            if outcome is None:
                self.model.placed(hold)
            else:
                assert isinstance(outcome, Refusal)
                self.model.seen(hold)
        self._within_limits([hold for hold, outcome in zip(holds, outcomes, strict=True) if outcome is None])
        if len(holds) == 1 and isinstance(outcomes[0], Refusal):
            self._rightly_refused(holds[0])

    @rule(uid=JOBS, smallest=AMOUNTS, remaining=st.integers(0, 900), estimate=st.integers(0, 900), death=DEATHS)
    def reserve(self, uid: str, smallest: int, remaining: int, estimate: int, death: int | str | None) -> None:
        """A sign of life."""
        need = Need(smallest, smallest // 2, remaining, estimate, remaining // 2, estimate // 2)
        accounts = self.wallet.accounts(self.now, uid)
        outcomes = self._commit([Reserve(self.wallet.job(uid), accounts, need, self.now)], death)
        self.model.day = max(self.model.day, self._head_day())
        if outcomes is not None and not isinstance(outcomes[0], Refusal):
            self._within_limits([self.wallet.hold(0, 0, self.now, uid)])

    @rule(uid=JOBS, death=DEATHS)
    def give_back(self, uid: str, death: int | str | None) -> None:
        """The job asks no more."""
        if self._commit([GiveBack(self.wallet.job(uid), self.now)], death) is not None:
            with self.reader.connect() as connection:
                assert reading.usage(connection, self.wallet.job(uid)).reserved == 0

    @rule(amounts=st.lists(st.tuples(JOBS, AMOUNTS, AMOUNTS), min_size=2, max_size=8), data=st.data())
    def spend(self, amounts: list[tuple[str, int, int]], data: st.DataObject) -> None:
        """The usual course of things: requests, then outcomes."""
        self.hold(amounts, None)
        if self.model.holds:
            self.resolve(data, None)

    @rule(amount=AMOUNTS, uid=JOBS)
    def hold_one(self, amount: int, uid: str) -> None:
        """A request alone: whether its refusal was right can be told."""
        self.hold([(uid, amount, amount)], None)

    @precondition(lambda self: self.model.holds)
    @rule(data=st.data(), death=DEATHS)
    def resolve(self, data: st.DataObject, death: int | str | None) -> None:
        """Outcomes of several holds in one batch, some for the second time."""
        numbers = data.draw(st.lists(st.sampled_from(sorted(self.model.holds)), min_size=1, max_size=4, unique=True))
        operations: list[Operation] = []
        for number in numbers:
            kind, billed, tokens = data.draw(st.tuples(ENDS, AMOUNTS, AMOUNTS))
            if kind == "settle":
                operations.append(Settle(number, billed, tokens, 1, self.now, None))
            elif kind in ("billed", "not-billed"):
                operations.append(Resolve(number, billed if kind == "billed" else None, (tokens, 1), self.now, "a person"))
            else:
                operations.append((Release if kind == "release" else Doubt)(number, self.now, Why.TIMEOUT))
        outcomes = self._commit(operations, death)
        if outcomes is None and death != "reply":
            return
        for number, operation, outcome in zip(numbers, operations, outcomes or [None] * len(numbers), strict=True):
            self._resolved(number, operation, None if outcomes is None else outcome)

    def _resolved(self, number: str, operation: Operation, outcome: object) -> None:
        held = self.model.holds[number]
        before = self.was.get(number, held.state)
        if isinstance(operation, Resolve):
            assert isinstance(outcome, HoldResolved) or before != "dispatched" or outcome is None
            if before == "inDoubt":
                assert not isinstance(outcome, HoldResolved)
                held.state, held.billed = ("released", 0) if operation.amount is None else ("settled", operation.amount)
                held.tokens = sum(operation.tokens or ())
            return
        if before == "dispatched" or (before == "inDoubt" and isinstance(operation, Settle)):
            assert not isinstance(outcome, HoldResolved)
            if isinstance(operation, Settle):
                held.state, held.billed, held.tokens = "settled", operation.amount, operation.tokens_in + operation.tokens_out
            else:
                held.state = "released" if isinstance(operation, Release) else "inDoubt"

    @rule(hours=st.sampled_from([0, 1, 5, 24, 31 * 24]))
    def wait(self, hours: int) -> None:
        """Time passes."""
        self.now += timedelta(hours=hours, minutes=3)

    @rule(hours=st.sampled_from([1, 24, 40 * 24]))
    def step_back(self, hours: int) -> None:
        """The clock was wrong."""
        self.now -= timedelta(hours=hours)

    @rule(window=WINDOWS, unit=st.sampled_from(["usd", "tokens"]), limit=st.one_of(st.none(), LIMITS, LIMITS))
    def edit(self, window: Any, unit: str, limit: int | None) -> None:
        """A person changes a limit."""
        limits = self.wallet.usd if unit == "usd" else self.wallet.tokens
        limits.pop(window, None)
        if limit is not None:
            limits[window] = limit

    @rule(window=WINDOWS, unit=st.sampled_from(["usd", "tokens"]), limit=LIMITS, amount=AMOUNTS, uid=JOBS)
    def edit_and_ask(self, window: Any, unit: str, limit: int, amount: int, uid: str) -> None:
        """The next request is judged by the new limit."""
        self.edit(window, unit, limit)
        self.hold([(uid, amount, amount)], None)

    @rule(death=DEATHS)
    def sweep(self, death: int | str | None) -> None:
        """Idle reservations lapse."""
        self._commit([Sweep(self.now)], death)

    @rule()
    def restart(self) -> None:
        """An orderly end and a new start."""
        self._end()
        self.model.restarted()
        self._open()

    @invariant()
    def balances_are_those_of_the_model(self) -> None:
        """All buckets but what is set aside, of every account that was ever used."""
        accounts = {account for held in self.model.holds.values() for account in held.accounts}
        with self.reader.connect() as connection:
            for use in reading.windows(connection, tuple(accounts)):
                found = {"settled": use.settled, "held": use.held, "in_doubt": use.in_doubt, "overrun": use.overrun}
                assert found == self.model.expected(use.account), use.account

    def teardown(self) -> None:
        """The chain tells the same story, and no grant of it was beyond a limit."""
        if hasattr(self, "reader"):
            with self.reader.connect() as connection:
                assert verify.stored(connection).faults == []
            self._end()

    def _open(self) -> None:
        # replicas of Postgres count as dead after a minute
        self.now += timedelta(minutes=2)
        self.engine, self.reader = database.connect(self.address), database.connect(self.address, reading=True)
        self.committer = committing.opened(self.engine, self.now)

    def _end(self) -> None:
        self.engine.dispose()
        self.reader.dispose()

    def _commit(self, operations: list[Operation], death: int | str | None) -> list[object] | None:
        """The outcomes; None if the process died and was started again."""
        self.was = {number: held.state for number, held in self.model.holds.items()}
        try:
            with self._deadly(death):
                outcomes = self.committer.commit(operations)
            if death != "reply":
                return outcomes
        except Killed:
            pass
        self._end()
        self.model.restarted()
        self._open()
        return None

    @contextmanager
    def _deadly(self, death: int | str | None) -> Iterator[None]:
        left = [death if isinstance(death, int) else 0]

        def counted(statement: Callable[..., Any]) -> Callable[..., Any]:
            def run(*arguments: Any) -> Any:
                left[0] -= 1
                if left[0] == 0:
                    raise Killed
                return statement(*arguments)

            return run

        def commit(_connection: object) -> None:
            if death == "commit":
                raise Killed

        event.listen(self.engine, "commit", commit)
        with patch.object(Cursor, "rows", counted(Cursor.rows)), patch.object(Cursor, "change", counted(Cursor.change)):
            try:
                yield
            finally:
                event.remove(self.engine, "commit", commit)

    def _learn(self, holds: list[Hold]) -> None:
        """After a death, which holds are there: nobody was told of them, so each may be."""
        with self.reader.connect() as connection:
            rows = {row.id: row.state for row in connection.exec_driver_sql("SELECT id, state FROM holds")}
        self.model.day = max(self.model.day, self._head_day())
        for hold in holds:
            if hold.id in rows:
                assert rows[hold.id] == "inDoubt", "a restart leaves none dispatched"
                self.model.placed(hold)
                self.model.holds[hold.id].state = "inDoubt"
        assert set(self.model.holds) == set(rows), "a hold that was granted is never lost, and none appears from nowhere"

    def _head_day(self) -> str:
        with self.reader.connect() as connection:
            return str(connection.exec_driver_sql("SELECT clock FROM head").scalar_one())

    def _within_limits(self, granted: list[Hold]) -> None:
        """I1: after a grant no account of it is beyond its limit, whatever is counted."""
        for account, used in self._used(granted):
            assert account.limit is None or used <= account.limit, f"{account}: {used}"

    def _rightly_refused(self, hold: Hold) -> None:
        """There is an account with too little left, now that the job keeps nothing aside."""
        short = [
            account for account, used in self._used([hold])
            if account.limit is not None and used + (hold.amount if account.unit == "USD" else hold.tokens) > account.limit
        ]  # fmt: skip
        assert short, f"refused although all accounts have room for {hold}"

    def _used(self, holds: list[Hold]) -> list[tuple[Account, int]]:
        accounts = tuple({not_before(account, self.model.day) for hold in holds for account in hold.accounts})
        with self.reader.connect() as connection:
            return [(u.account, u.settled + u.held + u.reserved + u.in_doubt + u.overrun) for u in reading.windows(connection, accounts)]

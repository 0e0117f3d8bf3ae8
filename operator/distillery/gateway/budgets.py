"""What the gateway knows of a TeacherBudget, and the ledger's entries, for the operator and auditors."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime

from aiohttp import web

from distillery.api import reasons
from distillery.api.budget import BudgetTeacher, LedgerHead, TeacherBudgetSpec, TeacherStatus, Window
from distillery.api.money import usd
from distillery.api.usage import BudgetSnapshot
from distillery.timestamps import stamp

from .errors import INVALID_REQUEST, TEACHER_UNAVAILABLE, Refused
from .http import only, token_of
from .identity import Identities
from .ledger import Ledger, WindowUse, accounts_of, ends
from .money import plain
from .pace import Paces, overrun, reached
from .shortages import Shortages
from .standing import Law, Standings
from .teachers.teacher import Teachers

_PAGE = 1000


class Budgets:
    """/v1/budgets/{namespace}/{name} and /v1/ledger/entries, for the operator's ServiceAccount alone."""

    def __init__(
        self,
        identities: Identities,
        standings: Standings,
        law: Law,
        ledger: Ledger,
        teachers: Teachers,
        paces: Paces,
        shortages: Shortages,
        operator: tuple[str, str],
        now: Callable[[], datetime],
    ) -> None:
        self._identities, self._standings, self._law, self._ledger = identities, standings, law, ledger
        self._paces, self._teachers, self._shortages, self._operator, self._now = paces, teachers, shortages, operator, now

    def routes(self) -> list[web.RouteDef]:
        """For the application."""
        return [web.get("/v1/budgets/{namespace}/{name}", self._snapshot), web.get("/v1/ledger/entries", self._entries)]

    async def _snapshot(self, request: web.Request) -> web.Response:
        only(await self._identities.account(token_of(request)), self._operator, "read budgets")
        namespace, name = request.match_info["namespace"], request.match_info["name"]
        spec = await self._standings.budget(namespace, name)
        return web.json_response((await self._seen(namespace, name, spec)).wire())

    async def _seen(self, namespace: str, name: str, spec: TeacherBudgetSpec) -> BudgetSnapshot:
        now, budget = self._now(), f"{namespace}/{name}"
        accounts = accounts_of(budget, "", spec.limits.nano(), spec.limits.in_tokens(), now)
        uses = await self._ledger.windows(tuple(account for account in accounts if account.window != "perJob"))
        limited = [use for use in uses if use.account.limit is not None]
        head = await self._ledger.head()
        stopped = overrun(budget, uses)
        return BudgetSnapshot(
            windows=[window_of(use) for use in limited],
            teachers=[self._status(namespace, budget, teacher, now) for teacher in spec.teachers],
            exhausted=[text for use in limited if (text := self._shortages.sentence(use)) is not None],
            alerts=[
                *(f"overrun: {text}" for text in [*([stopped.message] if stopped else []), *self._paces.bounds.sentences(budget)]),
                *(crossed.sentence for crossed in reached(spec.alerts, limited)),
            ][:16],
            saved=usd(await self._ledger.saved(budget)),
            ledger=LedgerHead(sequence=head.sequence, head_digest=head.digest, observed_time=stamp(now)),
            read_only=self._ledger.read_only,
        )

    def _status(self, namespace: str, budget: str, teacher: BudgetTeacher, now: datetime) -> TeacherStatus:
        """Whether a teacher can be asked, as far as it depends on no job."""
        try:
            self._law.credentials.of(teacher, namespace)
            self._law.prices(teacher, now)
        except Refused as error:
            return TeacherStatus(name=teacher.name, ready=False, reason=error.reason, message=error.message)
        failing = self._teachers.of(budget, teacher).breakers.why(namespace)
        if failing is not None:
            return TeacherStatus(name=teacher.name, ready=False, reason=TEACHER_UNAVAILABLE, message=failing)
        return TeacherStatus(name=teacher.name, ready=True, reason=reasons.READY)

    async def _entries(self, request: web.Request) -> web.StreamResponse:
        """The chain as JSON lines, from the entry after `after` to the last."""
        only(await self._identities.account(token_of(request)), self._operator, "read the ledger")
        after = request.query.get("after", "0")
        if not after.isdigit() or not after.isascii():
            raise Refused(400, INVALID_REQUEST, f"after: {after!r} is not the number of an entry", param="after")
        sequence, response = int(after), web.StreamResponse(headers={"Content-Type": "application/jsonl"})
        lines = await self._ledger.entries(sequence, _PAGE)
        await response.prepare(request)
        while lines:
            await response.write("".join(f"{line}\n" for line in lines).encode())
            sequence += len(lines)
            lines = await self._ledger.entries(sequence, _PAGE)
        await response.write_eof()
        return response


def window_of(use: WindowUse) -> Window:
    """As the status of a budget has it."""
    account = use.account
    end = ends(account)

    def text(value: int) -> str:
        return plain(value, account.unit)

    return Window(
        name=account.window,
        unit=account.unit,
        id=account.id,
        limit=text(account.limit or 0),
        settled=text(use.settled),
        held=text(use.held + use.reserved),
        in_doubt=text(use.in_doubt),
        remaining=text(use.free or 0),
        overrun=text(use.overrun),
        resets=None if end is None else stamp(end),
    )

"""What a budget's alerts and overruns mean for the requests of a job: go on, go slower, or wait. Looked at once a second."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

from distillery.api import reasons
from distillery.api.budget import Alert

from .bounds import Bounds
from .errors import Refused, refusal
from .identity import JobId
from .ledger import Ledger, WindowUse, ends
from .money import amount
from .recent import Recent
from .standing import Standing

SECONDS = 1.0


@dataclass(frozen=True)
class Pace:
    """How a job may go on. `weight` 2 halves its pace."""

    weight: int = 1
    refused: Refused | None = None


@dataclass(frozen=True)
class Reached:
    """An alert whose threshold a window has reached."""

    alert: Alert
    use: WindowUse

    @property
    def sentence(self) -> str:
        """For people; what stands before the colon names the occasion and stays the same."""
        account, limit = self.use.account, self.use.account.limit or 0
        window = account.window if account.window == "perJob" else f"{account.window} {account.id}".replace("total total", "total")
        text = f"{self.alert.at} of {window}{'' if account.unit == 'USD' else ' in tokens'}"
        return f"{text}: {amount(_used(self.use), account.unit)} of {amount(limit, account.unit)} are settled, held or in doubt"


def reached(alerts: Sequence[Alert], uses: Sequence[WindowUse]) -> list[Reached]:
    """Every alert that is over its threshold, by window."""
    return [
        Reached(alert, use)
        for use in uses
        if use.account.limit
        for alert in alerts
        if _used(use) * 100 >= use.account.limit * int(alert.at.removesuffix("%"))
    ]


def overrun(budget: str, uses: Sequence[WindowUse]) -> Refused | None:
    """The stop after a bill above its hold: a price or a bound is wrong, so nothing more is risked until a person has looked."""
    worst = max((use for use in uses if use.overrun > 0), key=lambda use: use.overrun, default=None)
    if worst is None:
        return None
    text = f'TeacherBudget "{budget}": a teacher billed {amount(worst.overrun, worst.account.unit)} more than the worst case held for it'
    wrong = "correct its prices, templateTokens or maxCompletionTokens"
    remedy = f"{wrong}, then let your platform team run `distillery-gateway ledger accept --overrun {budget}`"
    return refusal(reasons.OVERRUN, f"{text}; {remedy}")


def pace(budget: str, alerts: Sequence[Alert], uses: Sequence[WindowUse]) -> Pace:
    """What follows for a job."""
    stopped = overrun(budget, uses)
    if stopped is not None:
        return Pace(refused=stopped)
    over = reached(alerts, uses)
    for crossed in over:
        if crossed.alert.action == "pause":
            resumes = ends(crossed.use.account)
            text = f'TeacherBudget "{budget}" pauses at {crossed.sentence}; raise the limit{"" if resumes is None else ", or wait"}'
            return Pace(refused=refusal(reasons.BUDGET_PAUSED, text, resumes=resumes))
    return Pace(weight=2 if any(crossed.alert.action == "throttle" for crossed in over) else 1)


class Paces:
    """The pace of each job. `clock` is monotonic."""

    def __init__(self, ledger: Ledger, clock: Callable[[], float]) -> None:
        self._ledger = ledger
        self.bounds = Bounds()
        self._overruns: Counter[str] = Counter()
        self._paces: Recent[tuple[JobId, str, int], Pace] = Recent(clock, SECONDS)

    async def pace(self, standing: Standing) -> Pace:
        """How the job may go on, as of a second ago at most."""
        broken = self.bounds.refused(standing)
        if broken is not None:
            return Pace(refused=broken)
        key = (standing.job, standing.budget, self._overruns[standing.budget])
        return await self._paces.get(key, partial(self._look, standing))

    def forget(self, budget: str) -> None:
        """It was overrun just now: look again for each of its jobs."""
        self._overruns[budget] += 1

    async def _look(self, standing: Standing) -> Pace:
        return pace(standing.budget, standing.spec.alerts, await self._ledger.windows(standing.accounts))


def _used(use: WindowUse) -> int:
    return use.settled + use.held + use.reserved + use.in_doubt + use.overrun

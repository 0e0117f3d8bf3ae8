"""A TeacherBudget: what the ledger knows of it, put into its status for people; nobody decides by it. Pure.

The status is a snapshot. It is written when a condition changes, else at most every `SNAPSHOT_SECONDS`, and not at all while nothing moves.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal

from pydantic import ValidationError

from .api import reasons
from .api.budget import BudgetSummary, TeacherBudgetSpec, TeacherBudgetStatus, TeacherStatus, Window
from .api.problems import problems
from .api.status import Condition
from .api.usage import BudgetSnapshot
from .body import Body
from .conditions import Verdict, clip, status_of, updated
from .manifests import event
from .observe import Silence, TeacherBudget
from .timestamps import seconds_since

#: Between two looks at a budget that moves, and at one that does not or whose gateway is silent.
SNAPSHOT_SECONDS, IDLE_SECONDS, SILENT_SECONDS = 15.0, 30.0, 10.0
#: Why a budget may be not ready and yet become so without anybody changing it or the chart.
_HEALS = (reasons.LEDGER_READ_ONLY, reasons.TEACHER_UNAVAILABLE)
#: With more than this part of a limit in doubt a person has to look: what is in doubt never comes back by itself.
_MOST_IN_DOUBT = Decimal("0.05")


@dataclass(frozen=True)
class BudgetDecision:
    """What to write and tell. `wake`: jobs that wait for this budget may go on."""

    status: TeacherBudgetStatus
    events: tuple[Body, ...]
    wake: bool
    requeue_after: float


def problem(budget: TeacherBudget) -> str | None:
    """What is wrong with its spec; the gateway need not be asked then."""
    try:
        TeacherBudgetSpec.model_validate(budget.spec)
    except ValidationError as error:
        return "; ".join(problems(error, "spec"))
    return None


def decide_budget(budget: TeacherBudget, told: BudgetSnapshot | Silence | str, now: datetime) -> BudgetDecision:
    """What to do with the gateway's answer, its silence, or the problem of a spec that it was not asked about."""
    old = budget.status
    new = _shown(budget, told, now)
    status = new if _is_news(old, new, now) else old
    return BudgetDecision(status, tuple(_events(budget, new, told, now)), _wakes(budget, new), _wait(old, new, told))


def _shown(budget: TeacherBudget, told: BudgetSnapshot | Silence | str, now: datetime) -> TeacherBudgetStatus:
    wanted = _verdicts(told)
    conditions = updated(budget.status.conditions, wanted, budget.generation, now, reasons.BUDGET_CONDITIONS)
    change: Body = {"observed_generation": budget.generation, "conditions": conditions}
    if isinstance(told, BudgetSnapshot):
        change |= {"windows": told.windows, "summary": _summary(told.windows), "teachers": told.teachers, "saved": told.saved}
        head, before = told.ledger, budget.status.ledger
        change["ledger"] = (
            before if head and before and (head.sequence, head.head_digest) == (before.sequence, before.head_digest) else head
        )
    return budget.status.model_copy(update=change)


def _verdicts(told: BudgetSnapshot | Silence | str) -> dict[str, Verdict]:
    if isinstance(told, str):
        ready = Verdict("False", reasons.INVALID_SPEC, told)
        return {reasons.READY: ready, reasons.STALLED: _stalled(ready)}
    if isinstance(told, Silence):
        words = f"the gateway does not answer ({told.message}): no teacher is asked until it does"
        ready = Verdict("Unknown", reasons.GATEWAY_UNAVAILABLE, words)
        return {reasons.READY: ready, reasons.STALLED: _stalled(ready)}
    ready = _ready(told)
    return {
        reasons.READY: ready,
        reasons.STALLED: _stalled(ready),
        reasons.EXHAUSTED: _listed(reasons.EXHAUSTED, told.exhausted),
        reasons.SOFT_LIMIT_EXCEEDED: _listed(reasons.SOFT_LIMIT_EXCEEDED, told.alerts),
        reasons.MONEY_IN_DOUBT: _listed(reasons.MONEY_IN_DOUBT, _doubts(told.windows)),
    }


def _ready(told: BudgetSnapshot) -> Verdict:
    if told.read_only is not None:
        return Verdict("False", reasons.LEDGER_READ_ONLY, told.read_only)
    lacking = [teacher for teacher in told.teachers if not teacher.ready]
    if lacking:
        return Verdict("False", lacking[0].reason, "; ".join(_of(teacher) for teacher in lacking))
    return Verdict("True", reasons.READY, f"can be asked: {', '.join(teacher.name for teacher in told.teachers)}")


def _stalled(ready: Verdict) -> Verdict:
    """Whether waiting helps nothing, which tools that wait for Ready have to be told: somebody must change the budget or the chart."""
    if ready.status == "False" and ready.reason not in _HEALS:
        return Verdict("True", ready.reason, ready.message)
    return Verdict("False", ready.reason)


def _of(teacher: TeacherStatus) -> str:
    return f"teacher {teacher.name}: {teacher.message or teacher.reason}"


def _listed(kind: str, sentences: Sequence[str]) -> Verdict:
    return Verdict("True", kind, "; ".join(sentences)) if sentences else Verdict("False", reasons.WITHIN_LIMITS)


def _doubts(windows: Sequence[Window]) -> list[str]:
    """A sentence for each window of which too much is in doubt; what stands before the colon stays the same."""
    return [
        f"{_named(window)}: {window.in_doubt} of {window.limit} are in doubt, more than 5 %; compare with the provider's usage"
        " page (`distillery-gateway ledger doubts`) and end them (`ledger resolve`)"
        for window in windows
        if Decimal(window.in_doubt) > Decimal(window.limit) * _MOST_IN_DOUBT
    ]


def _named(window: Window) -> str:
    name = window.name if window.id == window.name else f"{window.name} {window.id}"
    return name if window.unit == "USD" else f"{name} in tokens"


def _summary(windows: Sequence[Window]) -> BudgetSummary | None:
    """The window with the least left; of tokens only where no window counts money."""
    counted = [window for window in windows if window.unit == "USD"] or list(windows)
    if not counted:
        return None
    least = min(counted, key=lambda window: Decimal(window.remaining))
    used = Decimal(least.settled) + Decimal(least.in_doubt) + Decimal(least.overrun)
    return BudgetSummary(
        window=least.name if least.unit == "USD" else f"{least.name} {least.unit}",
        limit=least.limit,
        used=str(used),
        reserved=least.held,
        remaining=least.remaining,
        resets=least.resets,
    )


def _is_news(old: TeacherBudgetStatus, new: TeacherBudgetStatus, now: datetime) -> bool:
    """Whether the status is written in this pass. Amounts alone wait until the last ones are old enough."""
    if (old.observed_generation, _words(old.conditions)) != (new.observed_generation, _words(new.conditions)):
        return True
    return old != new and (old.ledger is None or seconds_since(old.ledger.observed_time, now) >= SNAPSHOT_SECONDS)


def _words(conditions: Sequence[Condition]) -> list[tuple[str, str, str]]:
    return [(condition.type, condition.status, condition.reason) for condition in conditions]


def _wakes(budget: TeacherBudget, new: TeacherBudgetStatus) -> bool:
    old = budget.status
    if old.observed_generation != budget.generation:
        return True
    healed = ((reasons.READY, "True"), (reasons.EXHAUSTED, "False"), (reasons.SOFT_LIMIT_EXCEEDED, "False"))
    return any(status_of(old.conditions, kind) != status == status_of(new.conditions, kind) for kind, status in healed)


def _wait(old: TeacherBudgetStatus, new: TeacherBudgetStatus, told: BudgetSnapshot | Silence | str) -> float:
    if isinstance(told, Silence):
        return SILENT_SECONDS
    moves = old != new or any(Decimal(window.held) > 0 for window in new.windows)
    return SNAPSHOT_SECONDS if moves else IDLE_SECONDS


def _events(budget: TeacherBudget, new: TeacherBudgetStatus, told: BudgetSnapshot | Silence | str, now: datetime) -> Iterator[Body]:
    """What has become true: each window and alert by itself, told once for a generation of the spec."""
    before = {condition.type: condition for condition in budget.status.conditions}
    if isinstance(told, BudgetSnapshot):
        lists = ((reasons.EXHAUSTED, told.exhausted), (reasons.SOFT_LIMIT_EXCEEDED, told.alerts))
        for kind, sentences in (*lists, (reasons.MONEY_IN_DOUBT, _doubts(told.windows))):
            known = before[kind].message if kind in before else ""
            for sentence in sentences:
                occasion = sentence.partition(": ")[0]
                if f"{occasion}: " not in known:
                    yield event(budget, "Warning", kind, clip(sentence), f"{budget.generation}/{occasion}", now)
    ready = next(condition for condition in new.conditions if condition.type == reasons.READY)
    was = before.get(reasons.READY)
    if ready.status == "False" and (was is None or (was.status, was.reason) != (ready.status, ready.reason)):
        yield event(budget, "Warning", ready.reason, ready.message, f"{budget.generation}/{ready.reason}", now)

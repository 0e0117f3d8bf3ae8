"""The teacher's money: claimed before a job buys traces, kept while it does, given back when it has ended, paused or been refused.

A claim is noted in the status (`budgetClaimed`) before it is made, as a run is before its Job is created; so whoever dies between two
calls leaves nothing set aside that the next pass does not know of. The gateway's ledger is the truth; what a job shows is its word.
"""

from __future__ import annotations

from distillery.api import reasons
from distillery.api.kinds import PREFLIGHT, TRACES
from distillery.api.refusals import reasons_of
from distillery.api.status import DistillationJobStatus, StageProgress
from distillery.api.usage import Reservation
from distillery.conditions import Verdict, clip, updated
from distillery.observe import Silence
from distillery.timestamps import seconds_since

from .claim import buys, given_back, unbought, wants
from .situation import SATISFIED, Draft, Situation, is_open

#: What the platform team has to put right, and a preflight pod may be the first to hear.
_PREFLIGHT_HEARS = reasons_of("terms", "setup", "ledger")


def blocked(situation: Situation, draft: Draft) -> Verdict | None:
    """Why no stage may start: the terms, or, while there is something to buy, a budget or teacher that is not there."""
    allowance = situation.observed.allowance
    if allowance is None:
        return None
    return allowance.refusal or (allowance.lack if unbought(draft.status) is not None else None)


def settle(situation: Situation, draft: Draft) -> Draft:
    """Take over the gateway's answer; note a claim, or that it is done with; let the traces stage wait while nothing is granted."""
    allowance = situation.observed.allowance
    if allowance is not None and allowance.policy is not None:
        draft = draft.with_status(policy=allowance.policy)
    if given_back(situation):
        return draft.with_status(budget_claimed=None)
    if not wants(situation, draft):
        return draft
    draft = draft.with_status(budget_claimed=True)
    refusal = _refusal(situation)
    traces = draft.stage(TRACES)
    if refusal is None or (is_open(traces) and traces.run_start_time is not None):
        return draft
    return draft.with_stage(TRACES, state="Waiting", reason=refusal.reason, message=clip(refusal.message))


def may_buy(situation: Situation) -> bool:
    """Whether a run of the traces stage may be opened or created now: the gateway has just said yes."""
    answer = situation.observed.money
    return isinstance(answer, Reservation) and answer.state == "Granted" and bool(situation.job.status.budget_claimed)


def waits(situation: Situation, draft: Draft) -> bool:
    """Whether the job stands still for want of a budget: such time is no time of work."""
    if blocked(situation, draft) is not None or _preflight_refused(draft.status) is not None:
        return not any(run.live for run in situation.observed.runs.values())
    return wants(situation, draft) and not may_buy(situation) and not any(run.live for run in situation.observed.of(TRACES))


def phase(situation: Situation, draft: Draft) -> str | None:
    """The reason for which the job stands still, where that is the budget or its terms."""
    if not waits(situation, draft):
        return None
    why = blocked(situation, draft) or _preflight_refused(draft.status) or _refusal(situation)
    return why.reason if why else None


def after_end(situation: Situation) -> DistillationJobStatus:
    """The status of a job that has ended, with what it has cost in the end once the rest is given back."""
    if not given_back(situation):
        return situation.job.status
    draft = take_usage(situation, Draft(situation.job.status)).with_status(budget_claimed=None)
    told = {reasons.BUDGET_RESERVED: _released(draft.status)}
    return draft.with_status(conditions=updated(draft.status.conditions, told, situation.job.generation, situation.now)).status


def take_usage(situation: Situation, draft: Draft) -> Draft:
    """Usage and estimate as the gateway tells them; of a running stage no more often than its progress, with which they are written."""
    told, status = situation.observed.money, draft.status
    if not isinstance(told, Reservation):
        return draft
    change = {"teacher_usage": told.usage, "estimate": told.estimate or status.estimate}
    if (status.teacher_usage, status.estimate) == (change["teacher_usage"], change["estimate"]):
        return draft
    before = next((stage for stage in situation.job.status.stages if stage.name == TRACES), None)
    now = unbought(status)
    if before is None or now is None or before.state != "Running" or now.state != "Running":
        return draft.with_status(**change)
    seen = before.progress.observed_time if before.progress else None
    if seen is not None and seconds_since(seen, situation.now) < situation.plan.settings.progress_seconds:
        return draft
    progress = (now.progress or StageProgress()).model_copy(update={"observed_time": situation.stamp})
    return draft.with_stage(TRACES, progress=progress).with_status(**change)


def verdict(situation: Situation, draft: Draft) -> Verdict | None:
    """What BudgetReserved says; None: as before."""
    plan, status = situation.plan, draft.status
    if plan.spec is None:
        return _released(status) if status.teacher_usage is not None and not status.budget_claimed else None
    if plan.spec.teacher.endpoint is None:
        return Verdict("True", reasons.NOTHING_TO_BUY, "no teacher behind an API is asked")
    traces = unbought(status)
    if traces is None:
        return _bought(status)
    if (found := blocked(situation, draft)) is not None:
        return found
    if draft.verdict is not None or draft.suspension != "none":
        return None if status.budget_claimed else _released(status)
    if (refused := _preflight_refused(status)) is not None:
        return refused
    if not buys(plan, status, situation.observed.allowance):
        return Verdict("Unknown", reasons.WAITING_FOR_PREFLIGHT, "preflight counts what there is to buy")
    going = any(run.live for run in situation.observed.of(TRACES))
    refusal = _refusal(situation)
    if refusal is None:
        return Verdict("True", reasons.BUDGET_RESERVED, f"money is set aside within {_budget(situation)}")
    # the pods wait out a gateway that is gone for a moment; a condition that flickers would help nobody
    return None if going and isinstance(situation.observed.money, Silence) else refusal


def _preflight_refused(status: DistillationJobStatus) -> Verdict | None:
    """What the gateway said to a preflight pod that asked who the teacher is, until the next one asks."""
    preflight = next((stage for stage in status.stages if stage.name == PREFLIGHT), None)
    if preflight is None or preflight.state != "Waiting" or preflight.job_name is not None or preflight.reason not in _PREFLIGHT_HEARS:
        return None
    return Verdict("False", preflight.reason, preflight.message or "")


def _refusal(situation: Situation) -> Verdict | None:
    """Why the gateway grants nothing; None if it does."""
    answer = situation.observed.money
    if isinstance(answer, Silence):
        words = f"the gateway does not answer ({answer.message}), and nothing is bought without it; it is asked again every few seconds"
        return Verdict("Unknown", reasons.GATEWAY_UNAVAILABLE, words)
    if may_buy(situation):
        return None
    if answer is None or answer.state == "Granted":
        return Verdict("Unknown", reasons.WAITING_FOR_BUDGET, f"{_budget(situation)} is asked")
    resumes = f"; resumes {answer.resumes}" if answer.resumes and answer.resumes not in answer.message else ""
    return Verdict("False", answer.reason, f"{answer.message}{resumes}")


def _bought(status: DistillationJobStatus) -> Verdict | None:
    """Once the traces are there, or will never be."""
    traces = next((stage for stage in status.stages if stage.name == TRACES), None)
    if status.budget_claimed or traces is None:
        return None
    if status.teacher_usage is None and traces.state == "Reused":
        return Verdict("True", reasons.NOTHING_TO_BUY, "the traces are in the store already")
    return _released(status)


def _released(status: DistillationJobStatus) -> Verdict:
    if status.teacher_usage is None:
        return Verdict("Unknown", reasons.NOTHING_TO_BUY, "nothing was bought")
    done = any(stage.name == TRACES and stage.state in SATISFIED for stage in status.stages)
    words = f"{status.teacher_usage.cost} USD was paid; what else was set aside is given back"
    return Verdict("True" if done else "False", reasons.RELEASED, words)


def _budget(situation: Situation) -> str:
    spec = situation.plan.spec
    return f'TeacherBudget "{spec.budget_ref.name}"' if spec and spec.budget_ref else "the budget"

"""What a job says to the gateway about money: the claim that its status notes, how large it is, and when to speak again.

What is shown of the answer: `budget`.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

from distillery.allowance import Allowance
from distillery.api import reasons
from distillery.api.kinds import PREFLIGHT, TRACES
from distillery.api.status import DistillationJobStatus, StageStatus
from distillery.api.usage import Reservation, ReservationRequest
from distillery.observe import DistillationJob, Observed
from distillery.plan import Plan
from distillery.timestamps import seconds_since

from .situation import SATISFIED, Draft, Situation, is_over
from .waiting import PATIENCE_SECONDS

#: Metrics of preflight that a reservation is sized by.
REQUESTS, LONGEST_PROMPT = "requests", "longestPromptBytes"
#: Until a gateway that was silent, or refused, is asked again.
SILENT_SECONDS, REFUSED_SECONDS = 10.0, 30.0


class Claim(NamedTuple):
    """What this pass has to say to the gateway."""

    kind: Literal["reserve", "give back"]
    need: ReservationRequest


def claim(job: DistillationJob, plan: Plan, observed: Observed) -> Claim | None:
    """What the status that was read asks of the gateway. A claim is kept while pods of the traces stage live, and given back after."""
    status = job.status
    if not status.budget_claimed:
        return None
    if not job.suspend and not job.cancel and buys(plan, status, observed.allowance):
        return Claim("reserve", need_of(status))
    return None if any(run.live for run in observed.of(TRACES)) else Claim("give back", need_of(status))


def need_of(status: DistillationJobStatus) -> ReservationRequest:
    """What preflight has counted; nothing where it has not."""
    counted = {metric.name: metric.value for stage in status.stages if stage.name == PREFLIGHT for metric in stage.metrics}
    requests, longest = (counted.get(name, "") for name in (REQUESTS, LONGEST_PROMPT))
    return ReservationRequest(
        requests=int(requests) if requests.isdecimal() else 0, longest_prompt_bytes=int(longest) if longest.isdecimal() else 0
    )


def wants(situation: Situation, draft: Draft) -> bool:
    """Whether the draft leaves traces to buy, and nothing but money is between the job and them."""
    if draft.verdict or draft.suspension != "none" or situation.job.suspend:
        return False
    return buys(situation.plan, draft.status, situation.observed.allowance)


def claim_after(situation: Situation, draft: Draft) -> Literal["reserve", "give back"] | None:
    """What the next pass has to say to the gateway, as far as this one knows."""
    if not draft.status.budget_claimed:
        return None
    if wants(situation, draft):
        return "reserve"
    return None if any(run.live for run in situation.observed.of(TRACES)) else "give back"


def given_back(situation: Situation) -> bool:
    """Whether this pass has given the rest back, and the gateway has taken it."""
    made = claim(situation.job, situation.plan, situation.observed)
    return made is not None and made.kind == "give back" and isinstance(situation.observed.money, Reservation)


def seconds_to_ask(situation: Situation, draft: Draft) -> float | None:
    """Until the gateway is spoken to again: at once if this pass has noted something new, soon if it was silent, else as a heartbeat."""
    after = claim_after(situation, draft)
    if after is None:
        return None  # a job that is not let in hears of a change of its budget (`reconcile_budget`)
    if after != getattr(claim(situation.job, situation.plan, situation.observed), "kind", None):
        return 0.0
    if not isinstance(situation.observed.money, Reservation):
        return SILENT_SECONDS
    if situation.observed.money.state == "Granted":
        return situation.plan.settings.progress_seconds
    return _seconds_after_refusal(situation)


def _seconds_after_refusal(situation: Situation) -> float | None:
    """As long as a pod may yet ask, often; else after twice the time each, until the budget shows for certain that it refuses: from then on
    a change of it is told (`reconcile_budget`)."""
    if any(run.live for run in situation.observed.of(TRACES)):
        return REFUSED_SECONDS
    since = [c.last_transition_time for c in situation.job.status.conditions if (c.type, c.status) == (reasons.BUDGET_RESERVED, "False")]
    age = seconds_since(since[0], situation.now) if since else 0.0
    return max(REFUSED_SECONDS, age) if age < PATIENCE_SECONDS else None


def buys(plan: Plan, status: DistillationJobStatus, allowance: Allowance | None) -> bool:
    """Whether there are traces to buy for the spec of this plan, and all that comes before money is settled."""
    if plan.spec is None or plan.spec.teacher.endpoint is None or is_over(status) or status.spec_hash != plan.spec_hash:
        return False
    if allowance is None or allowance.refusal is not None or allowance.lack is not None:
        return False
    preflight = next((stage for stage in status.stages if stage.name == PREFLIGHT), None)
    traces = unbought(status)
    return preflight is not None and preflight.state in SATISFIED and traces is not None and traces.hash is not None


def unbought(status: DistillationJobStatus) -> StageStatus | None:
    """The traces stage while it is not done."""
    return next((stage for stage in status.stages if stage.name == TRACES and stage.state not in (*SATISFIED, "Failed")), None)

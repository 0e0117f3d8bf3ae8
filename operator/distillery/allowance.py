"""What a job's TeacherBudget says about it: which teacher it names, and what the terms of that teacher say about the declared use.

Pure. `decide` starts nothing that it forbids; the gateway judges the same again at each request.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date

from pydantic import ValidationError

from .api import reasons
from .api.budget import TeacherBudgetSpec
from .api.governance import PolicyVerdict
from .api.job import DistillationJobSpec
from .api.problems import problems
from .body import Body
from .conditions import Verdict
from .terms import Catalogue, judge, reason_of


@dataclass(frozen=True)
class Allowance:
    """At most one of the two stands in the way. `refusal` is of the terms; `lack` of the budget, or of the teacher in it."""

    refusal: Verdict | None = None
    lack: Verdict | None = None
    policy: PolicyVerdict | None = None


def allowance_of(namespace: str, spec: DistillationJobSpec, budget: Body | None, catalogue: Catalogue, today: date) -> Allowance | None:
    """What the budget, as it was read (None: it is not there), allows; None for a job that asks no teacher behind an API."""
    endpoint, use = spec.teacher.endpoint, spec.governance
    if endpoint is None or use is None or spec.budget_ref is None:
        return None
    name = spec.budget_ref.name
    where = f'TeacherBudget "{name}" in namespace "{namespace}"'
    if budget is None:
        words = f'spec.budgetRef: TeacherBudget "{name}" does not exist in namespace "{namespace}"; create it or ask your platform team'
        return _lacking(reasons.BUDGET_MISSING, words)
    try:
        found = TeacherBudgetSpec.model_validate(budget.get("spec") or {})
    except ValidationError as error:
        return _lacking(
            reasons.INVALID_SPEC, f"{where} is invalid: {'; '.join(problems(error, 'spec'))}; ask your platform team to correct it"
        )
    teacher = found.teacher(endpoint.teacher)
    if teacher is None:
        known = ", ".join(one.name for one in found.teachers)
        words = f'spec.teacher.endpoint.teacher: {where} has no teacher "{endpoint.teacher}", only {known}; name one of these in a new job'
        return _lacking(reasons.TEACHER_UNKNOWN, f"{words} or ask your platform team to add it")
    policy = judge(use.declared_use, teacher, catalogue, today)
    reason = reason_of(policy)
    return Allowance(refusal=Verdict("False", reason, policy.message) if reason else None, policy=policy)


def _lacking(reason: str, message: str) -> Allowance:
    return Allowance(lack=Verdict("False", reason, f"{message}. The job goes on by itself"))

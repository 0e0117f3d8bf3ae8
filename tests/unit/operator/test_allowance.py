"""What a budget says about a job: in sentences that name object, field, value and remedy."""

from __future__ import annotations

from datetime import date
from typing import Any

import pytest
from tests.crash.specs import BUDGET, ENDPOINT, MINIMAL, TERMS

from distillery.allowance import Allowance, allowance_of
from distillery.api.job import DistillationJobSpec

TODAY = date(2026, 3, 1)


def judged(budget: dict[str, Any] | None, spec: dict[str, Any] | None = None, **use: Any) -> Allowance | None:
    declared = {"declaredUse": {"purpose": "internal", "competes": False} | use}
    given = DistillationJobSpec.model_validate(spec or ENDPOINT | {"governance": declared})
    return allowance_of("nlp", given, None if budget is None else {"spec": budget}, TERMS, TODAY)


def with_terms(**terms: Any) -> dict[str, Any]:
    return BUDGET | {"teachers": [BUDGET["teachers"][0] | {"terms": {"service": "ours", **terms}}]}


@pytest.mark.parametrize(
    ("budget", "reason", "words"),
    [
        (None, "BudgetMissing", 'spec.budgetRef: TeacherBudget "team" does not exist in namespace "nlp"; create it or ask'),
        (
            BUDGET | {"teachers": [BUDGET["teachers"][0] | {"name": "other"}]},
            "TeacherUnknown",
            'has no teacher "gpt-x", only other; name one',
        ),
        (BUDGET | {"limits": {}}, "InvalidSpec", 'TeacherBudget "team" in namespace "nlp" is invalid: spec.limits: limits need at least'),
    ],
)
def test_what_lacks_is_named_and_heals(budget: dict[str, Any] | None, reason: str, words: str) -> None:
    found = judged(budget)
    assert found is not None
    assert found.lack is not None
    assert (found.lack.status, found.lack.reason, found.refusal, found.policy) == ("False", reason, None, None)
    assert words in found.lack.message
    assert found.lack.message.endswith("The job goes on by itself")


@pytest.mark.parametrize(
    ("budget", "use", "reason"),
    [
        (BUDGET, {}, None),
        (BUDGET, {"competes": True}, "TermsForbidUse"),
        (BUDGET, {"purpose": "commercial"}, "ApprovalNeeded"),
        (with_terms(approval={"reference": "LEGAL-17", "expires": "2026-03-01"}), {"purpose": "commercial"}, None),
        (with_terms(approval={"reference": "LEGAL-17", "expires": "2026-02-28"}), {"purpose": "commercial"}, "ApprovalExpired"),
        (with_terms(service="theirs"), {}, "TermsUnknown"),
    ],
)
def test_terms_are_judged_by_the_declared_use(budget: dict[str, Any], use: dict[str, Any], reason: str | None) -> None:
    found = judged(budget, **use)
    assert found is not None
    assert found.policy is not None
    assert (found.refusal.reason if found.refusal else None) == reason
    assert found.lack is None
    if reason == "TermsForbidUse":
        assert "section 1" in found.refusal.message  # type: ignore[union-attr]
        assert "https://teacher.example/terms" in found.refusal.message  # type: ignore[union-attr]


def test_a_job_without_endpoint_needs_none() -> None:
    assert judged(None, MINIMAL) is None

"""What a manifest says of a teacher behind an API: who it is, under which terms, what it cost."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from distillery.api.money import usd
from distillery.api.usage import TeacherInfo

from .answers import Answered


def usage_of(answers: Iterable[Answered]) -> dict[str, Any]:
    """What some answers were: bought or there already, at which cost, from which models, under which terms."""
    given = list(answers)
    return {
        "answers": len(given),
        "requests": sum(answer.requests for answer in given),
        "cacheHits": sum(answer.hits for answer in given),
        "cost": usd(sum(answer.cost for answer in given)),
        "models": sorted({answer.model for answer in given if answer.model}),
        "terms": sorted({term for answer in given for term in answer.terms}),
    }


def teacher_lineage(info: TeacherInfo, answers: Iterable[Answered]) -> dict[str, Any]:
    """Who taught, under which terms: what the gateway says, and what the answers say of themselves."""
    teacher = info.teacher
    return {
        "kind": "endpoint",
        "name": teacher.name,
        "baseURL": teacher.base_url,
        "model": teacher.model,
        "returnedModels": usage_of(answers)["models"],
        **terms_lineage(info),
    }


def terms_lineage(info: TeacherInfo) -> dict[str, Any]:
    """What the terms say of one job's declared use at this moment, and which prices apply."""
    policy = info.policy
    return {
        "budget": info.budget,
        "terms": list(policy.terms),
        "verdict": policy.verdict,
        "clause": policy.clause,
        "url": policy.url,
        "obligations": [obligation.wire() for obligation in policy.obligations],
        "catalogue": policy.catalogue,
        "approval": policy.approval,
        "prices": info.prices,
    }

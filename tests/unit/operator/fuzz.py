"""Specs that the CRD's schema admits, at random. CEL is not asked, so some are what only a hand-made object could be."""

from __future__ import annotations

from collections.abc import Mapping
from random import Random
from typing import Any

from tests.crash.specs import BUDGET

from distillery.allowance import Allowance
from distillery.api.budget import TeacherBudgetSpec
from distillery.api.job import DistillationJobSpec
from distillery.api.schema import schema_of
from distillery.api.usage import Reservation
from distillery.conditions import Verdict
from distillery.observe import Silence

Body = dict[str, Any]
_URIS = [
    "s3://bucket/path",
    "pvc://claim/path",
    "hf://org/name",
    "hf://org/name@rev",
    "file:///tmp/x",
    "s3://b/../x",
    "pvc://Claim",
    "ftp://no",
]
_WORDS = [
    "a",
    "x" * 20,
    "node-1",
    "Name",
    "0.5",
    "1e-5",
    "-1",
    "",
    "ü☃",
    "a b",
    "kubernetes.io/arch",
    "nvidia.com/gpu",
    "(.*)",
    "1Gi",
    "\x00",
    "{x}",
]
_SCHEMA, _BUDGET_SCHEMA = schema_of(DistillationJobSpec), schema_of(TeacherBudgetSpec)
_ENDPOINT: Body = {
    "teacher": {"endpoint": {"teacher": "gpt-x"}},
    "budgetRef": {"name": "team"},
    "governance": {"declaredUse": {"purpose": "internal", "competes": False}},
}
_GOOD: Body = {
    "teacher": {"model": {"uri": "hf://org/teacher"}},
    "student": {"model": {"uri": "hf://org/student"}},
    "data": {"train": {"uri": "s3://data/train.jsonl"}},
    "output": {"uri": "s3://models/tiny"},
}


def spec(chance: Random) -> Body:
    """A spec. Half of them are good ones with a few fields at random, so that they come past validation."""
    if chance.random() < 0.5:
        return _value(_SCHEMA, "", chance) or {}
    found = _GOOD | (_ENDPOINT if chance.random() < 0.5 else {})
    for name in chance.sample(sorted(_SCHEMA["properties"]), chance.randint(1, 3)):
        found[name] = _value(_SCHEMA["properties"][name], name, chance)
    return found


def budget(chance: Random) -> Body:
    """The spec of a TeacherBudget. Half of them are good ones with a few fields of a teacher at random."""
    if chance.random() < 0.5:
        return _value(_BUDGET_SCHEMA, "", chance) or {}
    schema = _BUDGET_SCHEMA["properties"]["teachers"]["items"]["properties"]
    teacher = BUDGET["teachers"][0] | {name: _value(schema[name], name, chance) for name in chance.sample(sorted(schema), 2)}
    return BUDGET | {"teachers": [teacher | {"name": "gpt-x"}]}


def money(chance: Random) -> Reservation | Silence | None:
    """What the gateway says."""
    reason = chance.choice(["BudgetReserved", "BudgetExhausted", "", "x" * 63])
    told = Reservation(state=chance.choice(["Granted", "Refused"]), reason=reason, message=chance.choice(_WORDS), resumes="tomorrow")
    return chance.choice([None, Silence(chance.choice(_WORDS)), told])


def allowance(chance: Random, spec: Mapping[str, Any]) -> Allowance | None:
    """What the budget says, if the spec names one."""
    if "budgetRef" not in spec:
        return None
    no = Verdict("False", "No", chance.choice(_WORDS))
    return chance.choice([None, Allowance(), Allowance(), Allowance(lack=no), Allowance(refusal=no)])


def _value(schema: Body, name: str, chance: Random) -> Any:
    if "enum" in schema:
        return chance.choice(schema["enum"])
    if schema.get("x-kubernetes-int-or-string"):
        return chance.choice([0, 1, 2**31, "1", "500m", "16Gi", "x"])
    kind = schema.get("type")
    if kind == "object":
        return _object(schema, chance)
    if kind == "array":
        least, most = schema.get("minItems", 0), min(schema.get("maxItems", 3), 3)
        return [_value(schema["items"], name, chance) for _ in range(chance.randint(least, max(least, most)))]
    if kind == "integer":
        least, most = schema.get("minimum", -5), min(schema.get("maximum", 1000), 1000)
        return chance.randint(least, max(least, most))
    if kind == "boolean":
        return chance.random() < 0.5
    words = _URIS if name == "uri" else _WORDS
    return chance.choice(words)[: schema.get("maxLength", 9)]


def _object(schema: Body, chance: Random) -> Body:
    properties: Body = schema.get("properties", {})
    required = set(schema.get("required", ()))
    rate = chance.choice([0.1, 0.3, 0.8])
    found = {k: _value(child, k, chance) for k, child in properties.items() if k in required or chance.random() < rate}
    if isinstance(schema.get("additionalProperties"), dict):
        found |= {chance.choice(_WORDS): _value(schema["additionalProperties"], "", chance) for _ in range(chance.randint(0, 2))}
    return found

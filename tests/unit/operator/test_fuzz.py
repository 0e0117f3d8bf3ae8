"""R14: whatever the schema admits, plan, manifests and decide say what is wrong and never raise."""

from __future__ import annotations

import json
from dataclasses import replace
from random import Random

import pytest
from tests.crash.specs import ENDPOINT, TERMS
from tests.loopback import CATALOGUE
from tests.unit.operator import fuzz
from tests.unit.operator.objects import NOW, SETTINGS, Story, ended

from distillery.allowance import allowance_of
from distillery.api.job import DistillationJobSpec
from distillery.decide_budget import decide_budget, problem
from distillery.observe import Silence, budget_from
from distillery.terms import parse_catalogue

FEW, MANY = 400, 10_000


def lead(seed: int) -> bool:
    """Lead a job of a random spec on as far as it goes; whether its spec was valid."""
    chance = Random(seed)
    story = Story(fuzz.spec(chance), replace(SETTINGS, gateway_url=chance.choice([None, "http://gateway"])))
    allowance = fuzz.allowance(chance, story.job.spec)
    for _ in range(3):
        for body in story.act(allowance=allowance, money=fuzz.money(chance)).create:
            assert len(body["metadata"]["name"]) <= 63
            json.dumps(body)
    if not story.runs:
        held = [c.reason for c in story.job.status.conditions if (c.type, c.status) in (("Stalled", "True"), ("BudgetReserved", "False"))]
        assert held or story.job.suspend or story.job.cancel
        return False
    if chance.random() < 0.5:
        story.finish("preflight")
    else:
        story.change(
            "preflight", finished="Failed", pods=(ended(chance.choice([1, 64, 75, 137, 143]), chance.choice(["", "{}", "\ud7ff\x00"])),)
        )
    story.edit(**fuzz.spec(chance))
    story.settle(allowance=fuzz.allowance(chance, story.job.spec), money=fuzz.money(chance))
    json.dumps(story.job.status.wire())
    return True


def test_no_spec_raises() -> None:
    valid = sum(lead(seed) for seed in range(FEW))
    assert FEW / 20 < valid < FEW * 19 / 20


def test_no_budget_raises() -> None:
    """Whatever it says, a job is told what is wrong with it, or what its terms are."""
    job, valid = DistillationJobSpec.model_validate(ENDPOINT), 0
    catalogues = [TERMS, parse_catalogue(CATALOGUE.read_text())]
    for seed in range(FEW):
        chance = Random(seed)
        spec = fuzz.budget(chance)
        meta = {"name": "team", "namespace": "nlp", "uid": "u", "resourceVersion": "1"}
        seen = budget_from({"metadata": meta, "spec": spec})
        wrong = problem(seen)
        decide_budget(seen, wrong or Silence("gone"), NOW)
        found = allowance_of("nlp", job, {"spec": spec}, chance.choice(catalogues), NOW.date())
        assert found is not None
        assert (found.lack is not None and found.lack.reason == "InvalidSpec") == (wrong is not None)
        valid += wrong is None
    assert FEW / 20 < valid < FEW * 19 / 20


@pytest.mark.slow
def test_ten_thousand_specs_do_not_raise() -> None:
    assert sum(lead(seed) for seed in range(FEW, FEW + MANY)) > MANY / 20

"""What the shipped catalogue says about teachers and uses, and how terms are joined."""

from __future__ import annotations

from datetime import date
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from distillery.api import reasons
from distillery.api.budget import BudgetTeacher
from distillery.api.governance import DeclaredUse, PolicyVerdict
from distillery.terms import Catalogue, judge, parse_catalogue, reason_of

TODAY = date(2026, 11, 25)
CATALOGUE = parse_catalogue(Path("helm/distillery/files/terms.yaml").read_text())
APPROVAL = {"reference": "LEGAL-7", "expires": "2026-12-31"}


def teacher(host: str = "vllm.team.svc:8000", **terms: Any) -> BudgetTeacher:
    prices = {"inputPerMillion": "1", "outputPerMillion": "1"}
    return BudgetTeacher.model_validate({"name": "t", "baseURL": f"https://{host}/v1", "model": "m", "prices": prices, "terms": terms})


def use(**changes: Any) -> DeclaredUse:
    return DeclaredUse.model_validate({"purpose": "commercial", "competes": False} | changes)


def verdict(host: str = "vllm.team.svc:8000", day: date = TODAY, declared: dict[str, Any] | None = None, **terms: Any) -> PolicyVerdict:
    return judge(use(**(declared or {})), teacher(host, **terms), CATALOGUE, day)


@pytest.mark.parametrize(
    ("host", "declared", "expected"),
    [
        ("api.openai.com", {"competes": True}, "deny"),
        ("api.openai.com", {}, "requireApproval"),
        ("eu.api.openai.com", {"competes": True}, "deny"),
        ("api.openai.com", {"competes": True, "task": "classify"}, "permit"),
        ("api.openai.com", {"competes": True, "task": "embed"}, "permit"),
        ("api.openai.com", {"competes": True, "task": "classify", "distribution": "weights"}, "deny"),
        ("api.anthropic.com", {}, "requireApproval"),
        ("generativelanguage.googleapis.com", {"competes": True}, "deny"),
        ("europe-west4-aiplatform.googleapis.com", {}, "unknown"),
        ("api.mistral.ai", {"competes": True, "distribution": "weights"}, "permit"),
        ("api.deepseek.com", {"competes": True, "distribution": "weights"}, "permit"),
        ("api.x.ai", {}, "deny"),
        ("api.meta.ai", {"competes": True}, "deny"),
        ("dashscope-intl.aliyuncs.com", {}, "unknown"),
        ("api.perplexity.ai", {}, "requireApproval"),
        ("team.openai.azure.com", {}, "unknown"),
        ("bedrock-runtime.us-east-1.amazonaws.com", {"competes": True}, "deny"),
        ("api.together.xyz", {}, "unknown"),  # the weights are not named
        ("llm.unheard-of.example", {}, "unknown"),
    ],
)
def test_services_are_found_by_the_host(host: str, declared: dict[str, Any], expected: str) -> None:
    assert verdict(host, declared=declared).verdict == expected


@pytest.mark.parametrize(
    ("weights", "declared", "expected", "obligations"),
    [
        ("own-weights", {"competes": True}, "permit", set()),
        ("apache-2.0", {"competes": True, "distribution": "weights"}, "permit", set()),
        ("mit", {"distribution": "weights"}, "permit", set()),
        ("llama-2", {}, "deny", {}),
        ("llama-3", {"purpose": "research"}, "deny", {}),
        ("llama-3.1", {}, "permit", {"flowDown", "review"}),
        ("llama-3.3", {"distribution": "service"}, "permit", {"namePrefix", "display", "file", "flowDown", "review"}),
        ("llama-3.2", {"purpose": "research", "territories": ["FR"]}, "permit", {"flowDown", "territory"}),
        ("gemma", {"distribution": "weights"}, "permit", {"flowDown", "file", "review"}),
        ("qwen-license", {"purpose": "internal", "distribution": "weights"}, "permit", {"display"}),
        ("qwen-research", {"purpose": "research"}, "permit", {"nonCommercial"}),
        ("qwen-research", {}, "deny", {}),
        ("deepseek-model-1.0", {}, "permit", {"flowDown"}),
        ("tencent-hunyuan", {"territories": ["DE"]}, "deny", {}),
        ("tencent-hunyuan", {"territories": ["KR"]}, "deny", {}),
        ("tencent-hunyuan", {"territories": ["US"]}, "permit", {"flowDown", "territory"}),
        ("tencent-hunyuan", {}, "unknown", {}),
        ("mistral-research", {}, "deny", {}),
        ("mistral-non-production", {"purpose": "research"}, "permit", {"nonCommercial"}),
        ("cc-by-nc-4.0", {"purpose": "internal"}, "deny", {}),
        ("nvidia-open-model", {"distribution": "weights"}, "permit", {"file", "notice", "review"}),
    ],
)
def test_weights_have_terms_of_their_own(weights: str, declared: dict[str, Any], expected: str, obligations: set[str]) -> None:
    found = verdict(declared=declared, service="self-hosted", weights=weights)
    assert found.verdict == expected
    if expected == "permit":
        assert {duty.type for duty in found.obligations} == obligations


def test_a_refusal_cites_clause_and_address_and_says_what_helps() -> None:
    found = verdict("api.openai.com", declared={"competes": True})
    assert (found.clause, found.url) == ("3.3(e)", "https://openai.com/policies/services-agreement/")
    assert found.message == (
        "OpenAI Services Agreement (3.3(e), https://openai.com/policies/services-agreement/): Output may not be used to develop models that"
        " compete with OpenAI. Choose a teacher whose terms allow it, or correct spec.governance.declaredUse if the student is for"
        " something else."
    )
    assert found.terms == ["openai-services-2026-01-01"]
    assert found.catalogue == CATALOGUE.digest


@pytest.mark.parametrize(
    ("host", "terms", "says"),
    [
        ("vllm.team.svc:8000", {}, 'set spec.teachers["t"].terms.service: self-hosted and spec.teachers["t"].terms.weights'),
        ("localhost:8000", {}, "terms.service: self-hosted"),
        ("127.0.0.1:8000", {}, "terms.service: self-hosted"),
        ("10.0.0.7", {}, "terms.service: self-hosted"),
        ("vllm", {}, "terms.service: self-hosted"),
        ("llm.unheard-of.example", {}, "has no entry for llm.unheard-of.example"),
        ("8.8.8.8", {}, "has no entry for 8.8.8.8"),
        ("vllm", {"service": "self-hosted"}, 'spec.teachers["t"].terms.weights is not set'),
        ("vllm", {"service": "self-hosted", "weights": "llama-33"}, "did you mean llama-3.3"),
        ("vllm", {"service": "openai-services"}, "did you mean openai-services-2026-01-01"),
        ("vllm", {"service": "apache-2.0"}, '"apache-2.0" is a licence of weights'),
        ("vllm", {"service": "self-hosted", "weights": "self-hosted"}, '"self-hosted" says nothing about models'),
        (
            "api.openai.com",
            {"service": "self-hosted", "weights": "mit"},
            '"self-hosted" is a contract with self-hosted, but api.openai.com',
        ),
    ],
)
def test_what_is_not_known_says_which_field_to_set(host: str, terms: dict[str, Any], says: str) -> None:
    found = verdict(host, **terms)
    assert found.verdict == "unknown"
    assert says in found.message
    assert reason_of(found) == reasons.TERMS_UNKNOWN


def test_a_contract_may_be_named_for_a_host_that_nobody_owns() -> None:
    assert verdict("llm-proxy.corp.example", declared={"competes": True}, service="openai-services-2026-01-01").verdict == "deny"


def test_a_model_without_open_weights_that_a_reseller_passes_on_keeps_its_makers_terms() -> None:
    assert verdict("openrouter.ai", declared={"competes": True}, weights="openai-services-2026-01-01").verdict == "deny"
    assert verdict("openrouter.ai", weights="mit").terms == ["openrouter-2026-05-06", "mit"]


def test_the_strictest_decides_and_obligations_add_up() -> None:
    mixed = verdict("api.mistral.ai", weights="llama-3.1")
    assert mixed.verdict == "permit"
    assert {duty.type for duty in mixed.obligations} == {"notice", "review", "flowDown"}
    assert verdict("api.anthropic.com", weights="llama-2").verdict == "deny"
    assert verdict("api.anthropic.com", weights="tencent-hunyuan").verdict == "unknown"
    assert verdict("api.anthropic.com", weights="mit").verdict == "requireApproval"


@pytest.mark.parametrize(
    ("day", "expected", "reason"),
    [
        (date(2026, 11, 25), "permit", None),
        (date(2026, 12, 31), "permit", None),
        (date(2027, 1, 1), "requireApproval", reasons.APPROVAL_EXPIRED),
    ],
)
def test_an_approval_holds_up_to_its_last_day(day: date, expected: str, reason: str | None) -> None:
    found = verdict("api.anthropic.com", day, approval=APPROVAL)
    assert (found.verdict, reason_of(found), found.approval) == (expected, reason, "LEGAL-7")
    assert ("ended on 2026-12-31" in found.message) is (reason is not None)
    assert ("renew" in found.message) is (reason is not None)


def test_without_an_approval_the_message_says_where_to_file_one() -> None:
    found = verdict("api.anthropic.com")
    assert reason_of(found) == reasons.APPROVAL_NEEDED
    assert 'spec.teachers["t"].terms.approval {reference, expires}' in found.message


def test_an_approval_helps_only_where_one_is_asked_for() -> None:
    denied = verdict("api.x.ai", approval=APPROVAL)
    assert (reason_of(denied), denied.approval) == (reasons.TERMS_FORBID_USE, None)
    assert verdict("api.deepseek.com", approval=APPROVAL).approval is None


def test_a_name_without_the_prefix_that_the_licence_asks_for_is_refused() -> None:
    declared = {"distribution": "weights", "studentName": "acme-3b"}
    found = verdict(declared=declared, service="self-hosted", weights="llama-3.3")
    assert reason_of(found) == reasons.TERMS_FORBID_USE
    assert 'begin with "Llama", and declaredUse.studentName is "acme-3b"' in found.message
    assert verdict(declared=declared | {"studentName": "Llama-acme"}, service="self-hosted", weights="llama-3.3").verdict == "permit"
    assert verdict(declared=declared | {"distribution": "internal"}, service="self-hosted", weights="llama-3.3").verdict == "permit"


def test_terms_that_should_have_been_read_again_ask_for_it_and_stop_nothing() -> None:
    found = verdict("api.deepseek.com", date(2027, 2, 1))
    assert found.verdict == "permit"
    assert [duty.value for duty in found.obligations] == ["deepseek-platform-2026-04-29 was to be read again by 2027-01-31"]


uses = st.builds(
    lambda **given: use(**given),
    purpose=st.sampled_from(["commercial", "internal", "research"]),
    task=st.sampled_from(["generate", "classify", "embed"]),
    distribution=st.sampled_from(["internal", "service", "weights"]),
    competes=st.booleans(),
    territories=st.lists(st.sampled_from(["EU", "DE", "US", "KR"]), max_size=2),
)
services = st.sampled_from([entry.id for entry in CATALOGUE.entries if entry.kind == "service"])
weights = st.sampled_from([entry.id for entry in CATALOGUE.entries if entry.kind == "weights"])
SEVERITY = ["permit", "requireApproval", "unknown", "deny"]


@given(uses, services, weights)
def test_the_verdict_is_the_join_of_both_terms_for_every_use(declared: DeclaredUse, service: str, licence: str) -> None:
    said = []
    for name in (service, licence):
        entry = CATALOGUE.get(name)
        assert entry is not None
        rule = entry.rule(declared)
        assert rule is not None
        said.append(rule.effect)
    found = judge(declared, teacher(service=service, weights=licence), CATALOGUE, TODAY)
    assert found.verdict == max(said, key=SEVERITY.index)
    assert set(found.terms) == {service, licence}
    assert PolicyVerdict.model_validate(found.wire()) == found
    assert (reason_of(found) is None) is (found.verdict == "permit")


def test_an_empty_catalogue_permits_nothing() -> None:
    for declared in ({}, {"competes": True}):
        empty = Catalogue(version="none")
        assert judge(use(**declared), teacher(service="self-hosted", weights="mit"), empty, TODAY).verdict == "unknown"
        assert judge(use(**declared), teacher("api.openai.com"), empty, TODAY).verdict == "unknown"

"""Who and what is refused, with which word and remedy; nothing is asked and nothing is held."""

from collections.abc import Callable
from typing import Any

import pytest
from tests.unit.gateway.conftest import Gate, budget, job, teacher_spec

Break = Callable[[Gate], None]


def teachers(**change: Any) -> Break:
    """The budget's teacher is another."""

    def apply(gate: Gate) -> None:
        gate.objects.apply(budget(gate.teacher_url, teachers=[teacher_spec(gate.teacher_url, **change)]))

    return apply


def no_budget(gate: Gate) -> None:
    del gate.objects.budgets["nlp", "team-a"]


def no_key(gate: Gate) -> None:
    (gate.asking.law.credentials._by_name["openai"]._folder / "key").unlink()


def other_namespace(gate: Gate) -> None:
    gate.asking.law.credentials._by_name["openai"].entry.namespaces[:] = ["vision"]


def shared(gate: Gate) -> None:
    gate.objects.apply(budget(gate.teacher_url, cache={"scope": "shared"}))


def no_use(gate: Gate) -> None:
    del gate.objects.jobs["nlp", "arith"]["spec"]["governance"]


def no_endpoint(gate: Gate) -> None:
    gate.objects.jobs["nlp", "arith"]["spec"]["teacher"] = {"model": {"uri": "hf://org/teacher"}}


def competes(gate: Gate) -> None:
    gate.objects.apply(job(competes=True))
    teachers(terms={"service": "openai-services-2026-01-01"}, baseURL="https://api.openai.com/v1")(gate)


ANTHROPIC = {"baseURL": "https://api.anthropic.com/v1", "terms": {}}
ENDED = {**ANTHROPIC, "terms": {"approval": {"reference": "legal-7", "expires": "2026-11-23"}}}
CASES = [
    # what is wrong, status, code, part of the sentence
    (competes, 403, "terms_forbid_use", "openai.com"),
    (teachers(terms={"service": "self-hosted"}), 403, "terms_unknown", "terms.weights"),
    (teachers(**ANTHROPIC), 403, "approval_needed", "anthropic"),
    (teachers(**ENDED), 403, "approval_expired", "legal-7 ended on 2026-11-23"),
    (teachers(credential="other"), 403, "credential_missing", "no credential of this installation"),
    (no_key, 403, "credential_missing", "create the Secret"),
    (other_namespace, 403, "credential_forbidden", 'not for namespace "nlp"'),
    (teachers(baseURL="https://evil.example.com/v1"), 403, "base_url_forbidden", "may not be sent to https://evil.example.com/v1"),
    (teachers(credential=None), 403, "base_url_forbidden", "openBaseURLs"),
    (teachers(prices={"source": "genai-prices"}), 403, "price_unknown", "inputPerMillion"),
    (teachers(name="other"), 404, "model_not_found", "it has other"),
    (no_budget, 404, "budget_missing", 'TeacherBudget "team-a" does not exist'),
    (shared, 403, "scope_forbidden", "sharedCacheNamespaces"),
    (no_use, 403, "invalid_spec", "declaredUse"),
    (no_endpoint, 404, "teacher_unknown", "has no endpoint"),
]


@pytest.mark.parametrize(("break_it", "status", "code", "says"), CASES, ids=[f"{case[2]}-{i}" for i, case in enumerate(CASES)])
async def test_a_job_that_may_not_ask_is_told_why(gate: Gate, break_it: Break, status: int, code: str, says: str) -> None:
    break_it(gate)
    replies = [await gate.ask(), await gate.ask(stream=True), await gate.request("GET", "/v1/teacher", "pod:nlp/arith/preflight")]
    for reply in replies:
        assert (reply.status, reply.code) == (status, code)
        assert says in reply.json["error"]["message"]
        assert reply.headers["x-should-retry"] == "false"
    reserved = await reserve(gate)
    assert (reserved.status, reserved.json["state"], reserved.json["reason"]) == (200, "Refused", replies[0].json["error"]["reason"])
    assert says in reserved.json["message"]
    assert gate.teacher.bodies == []
    assert (await gate.asking.ledger.head()).sequence == 0


async def reserve(gate: Gate, path: str = "/v1/reservations/nlp/arith/uid-arith") -> Any:
    return await gate.request("PUT", path, json={"requests": 100, "longestPromptBytes": 500})


async def test_what_is_mended_heals_by_itself(gate: Gate) -> None:
    no_budget(gate)
    assert (await gate.ask()).code == "budget_missing"
    gate.objects.apply(budget(gate.teacher_url))
    gate.time.forward(seconds=6)
    assert (await gate.ask()).status == 200


async def test_a_budget_that_is_deleted_and_created_again_has_spent_what_it_has_spent(gate: Gate) -> None:
    gate.limits(total="0.00039")
    assert (await gate.ask("a")).status == 200
    no_budget(gate)
    gate.time.forward(seconds=6)
    assert (await gate.ask("b")).code == "budget_missing"
    again = budget(gate.teacher_url, {"total": "0.00039"})
    gate.objects.apply({**again, "metadata": {**again["metadata"], "uid": "another"}})
    gate.time.forward(seconds=6)
    assert (await gate.ask("b")).code == "budget_exhausted"


async def test_a_limit_lowered_below_what_is_spent_refuses_and_is_no_overrun(gate: Gate) -> None:
    await gate.ask("a")
    gate.limits(total="0.000001")
    assert (await gate.ask("b")).code == "budget_exhausted"
    assert (await gate.window()).overrun == 0


async def test_another_model_than_the_jobs_own_is_not_there(gate: Gate) -> None:
    gate.objects.apply(budget(gate.teacher_url, teachers=[teacher_spec(gate.teacher_url), teacher_spec(gate.teacher_url, name="gpt-y")]))
    reply = await gate.ask(model="gpt-y")
    assert (reply.status, reply.code, reply.json["error"]["param"]) == (404, "model_not_found", "model")


async def test_a_refused_parameter_is_named(gate: Gate) -> None:
    reply = await gate.ask(tools=[{"type": "function"}])
    error = reply.json["error"]
    assert (reply.status, error["type"], error["param"]) == (400, "invalid_request_error", "tools")
    assert gate.teacher.bodies == []


STRANGERS = [
    (None, 401, "no_token"),
    ("forged", 401, "token_invalid"),
    ("wrong-audience", 401, "token_invalid"),
    ("operator", 403, "not_a_stage_pod"),
    ("no-pod", 403, "no_pod"),
    ("pod:nlp/other/traces", 403, "gone"),
]


@pytest.mark.parametrize(("token", "status", "code"), STRANGERS)
async def test_only_the_pods_of_a_live_job_ask(
    gate: Gate, token: str | None, status: int, code: str, caplog: pytest.LogCaptureFixture
) -> None:
    gate.objects.strange_tokens()
    for method, path in (("POST", "/v1/chat/completions"), ("POST", "/v1/completions"), ("GET", "/v1/models"), ("GET", "/v1/teacher")):
        reply = await gate.request(method, path, token, json={})
        assert (reply.status, reply.code) == (status, code)
    assert any("refused" in record.message for record in caplog.records)
    assert gate.teacher.bodies == []


async def test_a_pod_speaks_for_its_own_job_alone(gate: Gate) -> None:
    """There is nowhere to name another job: the token alone says which one pays."""
    for body in (budget(gate.teacher_url, {"total": "1.00"}, name="rich"), job("rich", "rich")):
        gate.objects.apply({**body, "metadata": {**body["metadata"], "namespace": "vision"}})
    await gate.ask(headers={"X-Distillery-Job": "vision/rich"}, token="pod:nlp/arith/traces")
    assert (await gate.usage()).requests == 1


@pytest.mark.parametrize("token", ["pod:nlp/arith/traces", "forged", None])
@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("PUT", "/v1/reservations/nlp/arith/uid-arith"),
        ("DELETE", "/v1/reservations/nlp/arith/uid-arith"),
        ("GET", "/v1/budgets/nlp/team-a"),
        ("GET", "/v1/ledger/entries"),
    ],
)
async def test_only_the_operator_reserves_and_reads(gate: Gate, method: str, path: str, token: str | None) -> None:
    reply = await gate.request(method, path, token, json={"requests": 1, "longestPromptBytes": 1})
    assert reply.status in (401, 403)
    assert (await gate.asking.ledger.head()).sequence == 0


async def test_without_an_api_server_nothing_is_proved_and_so_nothing_asked(gate: Gate, monkeypatch: pytest.MonkeyPatch) -> None:
    assert (await gate.ask("a")).status == 200
    gate.objects.down = True
    assert (await gate.ask("b")).status == 200
    gate.time.forward(seconds=6)
    reply = await gate.ask("c")
    assert (reply.status, reply.code, reply.headers["Retry-After"]) == (503, "gateway_unavailable", "5")
    gate.objects.down = False
    assert (await gate.ask("c")).status == 200

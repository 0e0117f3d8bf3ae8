"""The gateway in the cluster. A job whose teacher costs money: exact budgets, nothing bought twice, clear words when it cannot go on (B3,
B4, B6). Nobody else's progress (A9).

One file, for one process: a test here kills the gateway, and the others count on it.
"""

import json
import uuid
from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import pytest
from tests.conftest import Cluster
from tests.e2e.conftest import HELD_OUT_ROWS, Team
from tests.e2e.endpoint import TeacherServer, apply, budget, distinct_requests, endpoint_job, teacher_server

__all__ = ["teacher_server"]
pytestmark = pytest.mark.cluster
SYSTEM = "distillery-system"


def tb(team: Team, name: str = "team") -> dict[str, Any]:
    """The live budget."""
    return dict(json.loads(team.kubectl("get", "teacherbudget", name, "-o", "json")))


def usage(team: Team, job: str) -> dict[str, Any]:
    """status.teacherUsage; empty while it is not known."""
    return dict(team.status(job).get("teacherUsage", {}))


def taught(team: Team, job: str) -> dict[str, Any]:
    """The job's usage once its traces are there and what was set aside for them is given back; what is in doubt stays."""
    team.wait(lambda: team.condition(job, "TracesReady").get("status") == "True", f"the traces of {job}")

    def closed() -> dict[str, Any] | None:
        told = usage(team, job)
        return told if told and Decimal(told["reservedCost"]) == Decimal(told["inDoubtCost"]) else None

    return dict(team.wait(closed, f"the account of {job} to be closed"))


def test_an_exhausted_budget_pauses_the_job_and_a_raised_one_ends_it(team: Team, teacher_server: TeacherServer) -> None:
    """Never beyond the limit, from the row where it stopped; a second job with the same rows buys nothing."""
    apply(team, budget(limits={"total": "0.002"}))
    name = team.apply(endpoint_job(team, "bought"))
    paused = team.wait(
        lambda: (c := team.condition(name, "BudgetReserved")).get("status") == "False" and c["reason"] == "BudgetExhausted" and c,
        "the budget to be used up",
    )
    assert "0.002" in paused["message"]
    stage = team.wait(lambda: (s := team.stage(name, "traces")).get("state") == "Waiting" and s, "traces to wait")
    assert stage["attempts"] == 0
    team.wait(lambda: not [p for p in team.pods(name, "traces") if p["status"]["phase"] in ("Pending", "Running")], "its pods to end")
    assert Decimal(usage(team, name)["cost"]) <= Decimal("0.002")

    def exhausted() -> dict[str, Any] | None:
        conditions = tb(team).get("status", {}).get("conditions", [])
        return next((c for c in conditions if c["type"] == "Exhausted" and c["status"] == "True"), None)

    assert team.wait(exhausted, "the budget to say so")["message"]

    team.kubectl("patch", "teacherbudget", "team", "--type=merge", "-p", '{"spec":{"limits":{"total":"1.00"}}}')
    status = team.ended(name)["status"]
    assert all(s["attempts"] == 0 for s in status["stages"])
    bought = status["teacherUsage"]
    assert bought["requests"] == distinct_requests()
    assert Decimal(bought["cost"]) > 0
    assert Decimal(bought["reservedCost"]) == 0
    assert status["evaluation"]["rows"] == HELD_OUT_ROWS
    assert status["policy"]["verdict"] == "permit"

    written = teacher_server.written_tokens()
    again = team.apply(endpoint_job(team, "again", output={"uri": f"{team.output}-2", "credentialsSecretRef": {"name": "object-store"}}))
    second = taught(team, again)
    assert second.get("requests", 0) == 0
    assert second["cacheHits"] >= distinct_requests()
    assert Decimal(second["cost"]) == 0
    assert second["savedCost"] == bought["cost"]
    assert teacher_server.written_tokens() == written
    window = next(w for w in tb(team)["status"]["windows"] if w["name"] == "total" and w["unit"] == "USD")
    assert window["settled"] == bought["cost"]


def test_a_killed_gateway_costs_time_alone(team: Team, teacher_server: TeacherServer) -> None:
    """R17: the workers wait while it is away, no attempt is spent, nothing is bought twice."""
    under_way, kills = 2, (10, 60)
    apply(team, budget(rateLimits={"requestsPerMinute": 200, "maxConcurrency": under_way}))
    name = team.apply(endpoint_job(team, "gateway-killed"))
    for bought in kills:
        team.wait(lambda bought=bought: usage(team, name).get("requests", 0) >= bought, f"{bought} answers to be bought")
        team.cluster.kubectl("-n", SYSTEM, "delete", "pods", "-l", "app.kubernetes.io/component=gateway", "--force", "--grace-period=0")
        team.cluster.kubectl("-n", SYSTEM, "rollout", "status", "deployment/distillery-gateway", "--timeout=120s")
    told = taught(team, name)
    assert all(s["attempts"] == 0 for s in team.get(name)["status"]["stages"])
    lost = told["requests"] - distinct_requests()
    assert lost >= 0
    assert (lost == 0) == (Decimal(told["inDoubtCost"]) == 0)
    assert lost <= under_way * len(kills), "requests under way when the gateway died are in doubt, and no others are bought again"


#: Name of the case: fields of the teacher, fields of the job, then condition, reason and words.
FORBIDDEN: dict[str, tuple[dict[str, Any], dict[str, Any], tuple[str, str, str]]] = {
    "terms": (
        {"terms": {"service": "openai-services-2026-01-01"}},
        {"governance": {"declaredUse": {"purpose": "commercial", "competes": True}}},
        ("Validated", "TermsForbidUse", "https://"),
    ),
    "foreign-url": ({"baseURL": "https://elsewhere.example.com/v1"}, {}, ("BudgetReserved", "BaseURLForbidden", "elsewhere.example.com")),
    "unlisted-credential": ({"credential": "of-another-team"}, {}, ("BudgetReserved", "CredentialMissing", "of-another-team")),
    "unknown-price": ({"prices": {"source": "genai-prices", "provider": "openai"}}, {}, ("BudgetReserved", "PriceUnknown", "prices")),
    "expired-approval": (
        {"terms": {"service": "anthropic-commercial-2025-06-17", "approval": {"reference": "LEGAL-1", "expires": "2026-01-01"}}},
        {},
        ("Validated", "ApprovalExpired", "LEGAL-1"),
    ),
    "unknown-teacher": ({"name": "another"}, {}, ("BudgetReserved", "TeacherUnknown", "arithmetic")),
}


@pytest.fixture
def written(teacher_server: TeacherServer) -> Iterator[None]:
    """Whatever the test does, the teacher is not asked."""
    before = teacher_server.written_tokens()
    yield
    assert teacher_server.written_tokens() == before


@pytest.mark.usefixtures("written")
def test_what_may_not_be_asked_is_named_with_a_remedy(team: Team) -> None:
    """Each a condition with its reason; no run of traces; the budget's correction heals the job."""
    for case, (teacher, spec, _) in FORBIDDEN.items():
        apply(team, budget(case, **teacher))
        team.apply(endpoint_job(team, case, budgetRef={"name": case}, **spec))
    team.apply(endpoint_job(team, "no-budget", budgetRef={"name": "not-there"}))
    expected = {case: words for case, (_, _, words) in FORBIDDEN.items()} | {"no-budget": ("BudgetReserved", "BudgetMissing", "not-there")}
    for case, (kind, reason, words) in expected.items():
        found = team.wait(
            lambda case=case, kind=kind: (c := team.condition(case, kind)).get("status") == "False" and c, f"{case} to be refused", 180
        )
        assert found["reason"] == reason, f"{case}: {found}"
        assert words in found["message"], f"{case}: {found}"
        assert not team.pods(case, "traces")
        assert team.condition(case, "Succeeded")["status"] == "Unknown"
        team.kubectl("patch", "dj", case, "--type=merge", "-p", '{"spec":{"cancel":true}}')


def test_a_deleted_budget_is_remembered(team: Team, teacher_server: TeacherServer) -> None:
    """Accounts outlive the object: the same name made anew has spent what it had spent."""
    apply(team, budget(limits={"total": "1.00"}))
    name = team.apply(endpoint_job(team, "first"))
    spent = taught(team, name)["cost"]
    team.kubectl("delete", "teacherbudget", "team")
    apply(team, budget(limits={"total": "1.00"}))
    window = team.wait(
        lambda: next((w for w in tb(team).get("status", {}).get("windows", []) if w["name"] == "total"), None), "the new object's windows"
    )
    assert Decimal(window["settled"]) == Decimal(spent)


def test_progress_endpoint_refuses_strangers(cluster: Cluster, team: Team) -> None:
    """No token, a token of another audience, and a token without a pod are refused."""
    name = f"curl-{uuid.uuid4().hex[:6]}"
    gateway = "http://distillery-gateway.distillery-system/v1/progress"
    body = json.dumps({"stage": "train", "percentage": 1})
    statuses = []
    for header in ("", token(team, "https://kubernetes.default.svc"), token(team, "distillery-gateway")):
        statuses.append(post_from_pod(cluster, team, f"{name}-{len(statuses)}", gateway, body, header))
    assert statuses == ["401", "401", "403"]


def token(team: Team, audience: str) -> str:
    """A ServiceAccount token that belongs to no pod."""
    return team.kubectl("create", "token", "default", f"--audience={audience}").strip()


def post_from_pod(cluster: Cluster, team: Team, name: str, url: str, body: str, bearer: str) -> str:
    """The HTTP status that a POST from a pod of the team gets."""
    image = cluster.kubectl(
        "-n", "distillery-system", "get", "deployment", "distillery-operator", "-o", "jsonpath={.spec.template.spec.containers[0].image}"
    )
    code = (
        "import sys, urllib.request, urllib.error\n"
        "request = urllib.request.Request(sys.argv[1], sys.argv[2].encode(), {'Content-Type': 'application/json'})\n"
        "sys.argv[3] and request.add_header('Authorization', 'Bearer ' + sys.argv[3])\n"
        "try: print(urllib.request.urlopen(request, timeout=10).status)\n"
        "except urllib.error.HTTPError as error: print(error.code)\n"
    )
    container = {
        "name": "post",
        "image": image,
        "command": ["python3", "-c", code, url, body, bearer],
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "runAsNonRoot": True,
            "runAsUser": 65532,
            "capabilities": {"drop": ["ALL"]},
            "seccompProfile": {"type": "RuntimeDefault"},
        },
    }
    spec = {"restartPolicy": "Never", "automountServiceAccountToken": False, "containers": [container]}
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": spec}
    team.kubectl("apply", "-f", "-", stdin=json.dumps(pod))
    team.kubectl("wait", "--for=jsonpath={.status.phase}=Succeeded", f"pod/{name}", "--timeout=90s")
    return team.kubectl("logs", name).strip()

"""What Argo CD, Flux and kstatus make of a job's status, by the script and the expressions that we ship."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from lupa.lua51 import LuaRuntime

from distillery.api.reasons import BUDGET_CONDITIONS, CONDITIONS

ROOT = Path(__file__).parents[2]
LUA = (ROOT / "helm/distillery/files/argocd-health.lua").read_text()
BUDGET_LUA = (ROOT / "helm/distillery/files/argocd-health-budget.lua").read_text()
Body = dict[str, Any]


def job(observed: int | None = 1, generation: int = 1, **conditions: str) -> Body:
    """A job whose conditions are Unknown but for those given."""
    found = [{"type": kind, "status": conditions.get(kind, "Unknown"), "message": f"{kind} says"} for kind in CONDITIONS]
    status: Body = {"phase": "Train", "conditions": found} | ({"observedGeneration": observed} if observed else {})
    return {"metadata": {"name": "a", "generation": generation}, "status": status}


def budget(**conditions: str) -> Body:
    """Likewise a budget."""
    found = [{"type": kind, "status": conditions.get(kind, "Unknown"), "message": f"{kind} says"} for kind in BUDGET_CONDITIONS]
    return {"metadata": {"name": "a", "generation": 1}, "status": {"conditions": found, "observedGeneration": 1}}


NEW: Body = {"metadata": {"name": "a", "generation": 1}}
CASES = [
    pytest.param(NEW, "Progressing", "waiting for the operator", "inProgress", id="before the operator saw it"),
    pytest.param(job(observed=1, generation=2), "Progressing", "waiting for the operator", "inProgress", id="edited, not seen yet"),
    pytest.param(job(Reconciling="True"), "Progressing", "Train", "inProgress", id="not started"),
    pytest.param(job(Suspended="False"), "Progressing", "Train", "inProgress", id="running"),
    pytest.param(job(Suspended="True"), "Suspended", "Suspended says", "inProgress", id="suspended"),
    pytest.param(job(Succeeded="True"), "Healthy", "Succeeded says", "current", id="succeeded"),
    pytest.param(job(Succeeded="False", Stalled="True"), "Degraded", "Succeeded says", "failed", id="failed"),
    pytest.param(
        job(Succeeded="False", Stalled="True", Suspended="True"), "Degraded", "Succeeded says", "failed", id="failed, was suspended"
    ),
    pytest.param(job(Stalled="True", Validated="False"), "Degraded", "Stalled says", "failed", id="a spec that cannot be used"),
]


def argo_says(script: str, body: Body) -> tuple[str, str]:
    """Status and message."""
    lua = LuaRuntime()
    lua.globals().obj = lua.table_from(body, recursive=True)
    health = lua.execute(script)
    return health["status"], health["message"]


@pytest.mark.parametrize(("body", "status", "message", "_"), CASES)
def test_argo_cd_health(body: Body, status: str, message: str, _: str) -> None:
    assert argo_says(LUA, body) == (status, message)


@pytest.mark.parametrize(
    ("body", "status", "message"),
    [
        (NEW, "Progressing", "waiting for the operator"),
        (job(observed=1, generation=2, Ready="True"), "Progressing", "waiting for the operator"),
        (budget(Ready="True", Exhausted="True"), "Healthy", "Ready says"),
        (budget(Ready="False"), "Degraded", "Ready says"),
        (budget(), "Progressing", "Ready says"),
    ],
)
def test_argo_cd_health_of_a_budget(body: Body, status: str, message: str) -> None:
    assert argo_says(BUDGET_LUA, body) == (status, message)


@pytest.mark.parametrize(("body", "_", "__", "verdict"), CASES)
def test_flux_expressions(body: Body, _: str, __: str, verdict: str) -> None:
    block = next(b for b in re.findall(r"```yaml\n(.*?)```", (ROOT / "docs/gitops.md").read_text(), re.DOTALL) if "healthCheckExprs" in b)
    (check,) = yaml.safe_load(block)["spec"]["healthCheckExprs"]
    assert (check["apiVersion"], check["kind"]) == ("distillery.dev/v1alpha1", "DistillationJob")
    first = next(name for name in ("inProgress", "failed", "current") if holds(check[name], body))
    assert first == verdict


def holds(expression: str, body: Body) -> bool:
    """The few words of CEL that the expressions use, in Python."""
    conditions = body.get("status", {}).get("conditions")
    text = expression.replace("!", "not ").replace("||", " or ").replace("&&", " and ")
    text = text.replace("has(status.conditions)", str(conditions is not None))
    text = re.sub(
        r"status\.conditions\.exists\(c, c\.type == '(\w+)'\s+and\s+c\.status == '(\w+)'\)",
        lambda m: str(any(c["type"] == m[1] and c["status"] == m[2] for c in conditions or ())),
        text,
    )
    return bool(eval(text, {"__builtins__": {}}))


def test_kstatus_would_wait_for_a_condition_ready_so_there_is_none() -> None:
    assert "Ready" not in CONDITIONS

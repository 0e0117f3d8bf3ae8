"""What Argo CD, Flux and kstatus make of a job's status, by the scripts and expressions that we ship, run by engines of their languages.

kstatus itself, in Go, judges the same objects in tests/slow/test_kstatus.py.
"""

import re
from pathlib import Path
from typing import Any

import cel
import pytest
import yaml
from lupa.lua51 import LuaRuntime

from distillery.api.crd import NOT_OBSERVED
from distillery.api.reasons import BUDGET_CONDITIONS, CONDITIONS

ROOT = Path(__file__).parents[2]
FILES = ROOT / "helm/distillery/files"
LUA = (FILES / "argocd-health.lua").read_text()
BUDGET_LUA = (FILES / "argocd-health-budget.lua").read_text()
ACTIONS = yaml.safe_load((FILES / "argocd-actions.yaml").read_text())
Body = dict[str, Any]


def job(observed: int | None = 1, generation: int = 1, **conditions: str) -> Body:
    """A job whose conditions are Unknown but for those given."""
    found = [{"type": kind, "status": conditions.get(kind, "Unknown"), "message": f"{kind} says"} for kind in CONDITIONS]
    status: Body = {"phase": "Train", "conditions": found} | ({"observedGeneration": observed} if observed else {})
    return {"metadata": {"name": "a", "generation": generation}, "spec": {}, "status": status}


def budget(**conditions: str) -> Body:
    """Likewise a budget."""
    found = [{"type": kind, "status": conditions.get(kind, "Unknown"), "message": f"{kind} says"} for kind in BUDGET_CONDITIONS]
    return {"metadata": {"name": "a", "generation": 1}, "status": {"conditions": found, "observedGeneration": 1}}


#: As the API server shows an object that nobody has looked at yet.
NEW: Body = {"metadata": {"name": "a", "generation": 1}, "spec": {}, "status": dict(NOT_OBSERVED)}
CASES = [
    pytest.param(NEW, "Progressing", "waiting for the operator", "inProgress", id="before the operator saw it"),
    pytest.param(job(observed=1, generation=2), "Progressing", "waiting for the operator", "inProgress", id="edited, not seen yet"),
    pytest.param(job(Reconciling="True"), "Progressing", "Train", "inProgress", id="not started"),
    pytest.param(job(Suspended="False"), "Progressing", "Train", "inProgress", id="running"),
    pytest.param(job(Suspended="True"), "Suspended", "Suspended says", "inProgress", id="suspended"),
    pytest.param(job(Succeeded="True"), "Healthy", "Succeeded says", "current", id="succeeded"),
    pytest.param(
        job(observed=1, generation=2, Succeeded="True"), "Progressing", "waiting for the operator", "inProgress", id="edited after its end"
    ),
    pytest.param(job(observed=2, generation=2, Succeeded="True"), "Healthy", "Succeeded says", "current", id="and the edit was seen"),
    pytest.param(job(Succeeded="False", Stalled="True"), "Degraded", "Succeeded says", "failed", id="failed"),
    pytest.param(
        job(Succeeded="False", Stalled="True", Suspended="True"), "Degraded", "Succeeded says", "failed", id="failed, was suspended"
    ),
    pytest.param(job(Stalled="True", Validated="False"), "Degraded", "Stalled says", "failed", id="a spec that cannot be used"),
]


def lua(script: str, body: Body) -> Any:
    """What a script returns, with the libraries that Argo CD gives to scripts of users: the basic one and that of tables."""
    engine = LuaRuntime()
    for library in ("string", "math", "io", "debug"):
        engine.globals()[library] = None
    engine.globals().obj = engine.table_from(body, recursive=True)
    return engine.execute(script)


def argo_says(script: str, body: Body) -> tuple[str, str]:
    """Status and message."""
    health = lua(script, body)
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


@pytest.mark.parametrize(
    ("body", "offered"),
    [
        (NEW, {"suspend", "cancel"}),
        (job(), {"suspend", "cancel"}),
        (job() | {"spec": {"suspend": True}}, {"resume", "cancel"}),
        (job() | {"spec": {"cancel": True}}, set()),
        (job(Succeeded="True"), set()),
        (job(Succeeded="False") | {"spec": {"suspend": True}}, set()),
    ],
)
def test_argo_cd_offers_the_actions_that_make_sense(body: Body, offered: set[str]) -> None:
    found = {name: dict(action) for name, action in lua(ACTIONS["discovery.lua"], body).items()}
    assert {name for name, action in found.items() if not action["disabled"]} == offered
    assert set(found) == {action["name"] for action in ACTIONS["definitions"]}


@pytest.mark.parametrize(
    ("action", "spec"),
    [("suspend", {"suspend": True, "cancel": False}), ("resume", {"suspend": False, "cancel": False}), ("cancel", {"cancel": True})],
)
def test_an_action_changes_one_field_of_the_spec(action: str, spec: Body) -> None:
    (script,) = (definition["action.lua"] for definition in ACTIONS["definitions"] if definition["name"] == action)
    before = {"spec": {"suspend": action == "resume", "cancel": False, "output": {"uri": "s3://a/b"}}}
    after = lua(script, before)
    assert {name: dict(value) if name == "output" else value for name, value in after["spec"].items()} == before["spec"] | spec


@pytest.mark.parametrize(("body", "_", "__", "verdict"), CASES)
def test_flux_expressions(body: Body, _: str, __: str, verdict: str) -> None:
    block = next(b for b in re.findall(r"```yaml\n(.*?)```", (ROOT / "docs/gitops.md").read_text(), re.DOTALL) if "healthCheckExprs" in b)
    (check,) = yaml.safe_load(block)["spec"]["healthCheckExprs"]
    assert (check["apiVersion"], check["kind"]) == ("distillery.dev/v1alpha1", "DistillationJob")
    assert flux_says(check, body) == verdict


def flux_says(check: Body, body: Body) -> str:
    """As Flux decides: an edit that was not seen is in progress; then the first of its three expressions that holds, or in progress."""
    if body["status"].get("observedGeneration", body["metadata"]["generation"]) != body["metadata"]["generation"]:
        return "inProgress"
    return next((name for name in ("inProgress", "failed", "current") if cel.evaluate(check[name], body) is True), "inProgress")


@pytest.mark.parametrize("expression", ["inProgress", "failed", "current"])
def test_no_expression_needs_a_field_that_may_be_absent(expression: str) -> None:
    """An expression that cannot be evaluated is an error of the whole Kustomization."""
    block = next(b for b in re.findall(r"```yaml\n(.*?)```", (ROOT / "docs/gitops.md").read_text(), re.DOTALL) if "healthCheckExprs" in b)
    (check,) = yaml.safe_load(block)["spec"]["healthCheckExprs"]
    assert cel.evaluate(check[expression], NEW) in (True, False)


def test_kstatus_would_wait_for_a_condition_ready_so_there_is_none() -> None:
    assert "Ready" not in CONDITIONS

"""A cluster's job is drawn from kubectl's stream of objects until it has ended."""

import io
import json
from typing import Any

import pytest
from rich.console import Console

from distillery.local.watch import objects, watch

TIME = "2026-01-01T00:00:00Z"


def seen(**status: Any) -> str:
    """An object as `kubectl get --watch -o json` prints it."""
    return json.dumps({"kind": "DistillationJob", "status": status}, indent=4) + "\n"


def condition(status: str, reason: str, message: str) -> dict[str, str]:
    """A Succeeded condition."""
    return {"type": "Succeeded", "status": status, "reason": reason, "message": message, "lastTransitionTime": TIME}


def test_objects_come_one_by_one_while_the_stream_goes_on() -> None:
    """Braces inside strings and nested objects do not end an object."""
    first, second = seen(stages=[{"name": "train", "message": "}"}]), seen(phase="Failed")
    assert [o["status"] for o in objects(io.StringIO(first + second))] == [json.loads(first)["status"], {"phase": "Failed"}]


@pytest.mark.parametrize(("status", "code"), [("True", 0), ("False", 1)])
def test_exit_code_says_how_the_job_ended(status: str, code: int) -> None:
    """And the last line says why."""
    console = Console(file=io.StringIO(), width=120)
    stages = [{"name": "train", "state": "Running", "progress": {"percentage": 40, "done": 4, "total": 10, "unit": "steps"}}]
    stream = seen(stages=stages) + seen(stages=stages, conditions=[condition(status, "Because", "of [this: x]")])
    assert watch(io.StringIO(stream + "not read any more"), console) == code
    assert isinstance(console.file, io.StringIO)
    assert "Because: of [this: x]" in console.file.getvalue()
    assert "4/10 steps" in console.file.getvalue()


def test_a_stream_that_ends_early_is_no_success() -> None:
    """kubectl was cut off: nothing is known."""
    assert watch(io.StringIO(seen(phase="Running")), Console(file=io.StringIO())) == 2


def test_a_condition_that_is_waited_for_ends_the_watch() -> None:
    """`--until`: what it says is shown, and nothing after it is read."""
    console = Console(file=io.StringIO(), width=120)
    paused = condition("False", "BudgetExhausted", "until 2027") | {"type": "BudgetReserved"}
    assert watch(io.StringIO(seen(conditions=[paused]) + "not read any more"), console, "BudgetReserved=False") == 0
    assert isinstance(console.file, io.StringIO)
    assert "BudgetExhausted: until 2027" in console.file.getvalue()

"""Doubts end and answers are forgotten beside a gateway that goes on, and the head that it tells is one that `verify` takes."""

import json
from pathlib import Path
from typing import Any

import pytest
from tests.unit.gateway.conftest import Gate
from tests.unit.gateway.teacher_double import status

from distillery.gateway.ledger import commands


def ledger(tmp_path: Path, capsys: pytest.CaptureFixture[str], *words: str) -> list[dict[str, Any]]:
    """What a command prints."""
    capsys.readouterr()
    assert commands.main([words[0], "--database", f"sqlite:///{tmp_path}/ledger.db", *words[1:]]) == 0
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


async def test_a_doubt_is_resolved_while_the_gateway_runs(gate: Gate, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    gate.teacher.script.append(status(502, headers={"x-request-id": "req_abc-1"}))
    assert (await gate.ask()).code == "in_doubt"
    [doubt] = ledger(tmp_path, capsys, "doubts", "--budget", "nlp/team-a")
    assert (doubt["why"], doubt["status"], doubt["requestId"], doubt["teacher"]) == ("teacher-failed", 502, "req_abc-1", "gpt-x")
    window = await gate.window()
    assert window.in_doubt > 0
    ledger(tmp_path, capsys, "resolve", "--hold", doubt["hold"], "--not-billed", "--why", "not on the usage page")
    window = await gate.window()
    assert (window.in_doubt, window.held) == (0, 0)
    assert (await gate.ask()).cache == "miss"
    assert ledger(tmp_path, capsys, "doubts") == []


async def test_an_answer_that_a_person_drops_is_bought_again(gate: Gate, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    key = (await gate.ask()).headers["X-Distillery-Answer"]
    assert (await gate.ask()).cache == "hit"
    assert ledger(tmp_path, capsys, "forget", key, "--why", "of no use") == [{"forgotten": True}]
    assert [(await gate.ask()).cache for _ in range(2)] == ["miss", "hit"]


async def test_the_head_that_a_budget_shows_is_taken_by_verify(gate: Gate, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    await gate.ask("1?")
    told = (await gate.request("GET", "/v1/budgets/nlp/team-a")).json["ledger"]
    head = f"{told['sequence']}:{told['headDigest']}"
    await gate.ask("2?")
    await gate.ask("2?")
    assert ledger(tmp_path, capsys, "verify", "--head", head)[0]["faults"] == 0
    later = f"{told['sequence'] + 1000}:{told['headDigest']}"
    assert commands.main(["verify", "--database", f"sqlite:///{tmp_path}/ledger.db", "--head", later]) == 1

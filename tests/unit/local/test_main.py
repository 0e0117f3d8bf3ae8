"""What `distill run` says when a job cannot be run."""

import sys
from pathlib import Path

import pytest

from distillery.api.result import USER_MISTAKE, StageResult
from distillery.local import __main__ as program
from distillery.local.run import StageFailed


def failing(*_: object) -> None:
    """As a stage that cannot reach its store."""
    raise StageFailed("train", 75, StageResult(reason="StoreUnavailable", message="gone"), Path("/work/train/log.txt"))


def said_and_code(manifest: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> tuple[str, object]:
    """What the command prints, and its exit code."""
    monkeypatch.setattr(sys, "argv", ["distill", "run", manifest])
    with pytest.raises(SystemExit) as ended:
        program.main()
    return capsys.readouterr().out, ended.value.code


def test_a_failed_stage_is_a_sentence_and_the_stages_own_code(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """Whole: brackets in it are no markup of the terminal."""
    monkeypatch.setattr(program, "run_job", failing)
    sentence = "stage train failed (StoreUnavailable): gone [log: /work/train/log.txt]\n"
    assert said_and_code("examples/minimal.yaml", monkeypatch, capsys) == (sentence, 75)


def test_a_missing_manifest_is_the_users_mistake(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """It is named as it was given."""
    said, code = said_and_code("no [file: x].yaml", monkeypatch, capsys)
    assert said.startswith("no [file: x].yaml: ")
    assert code == USER_MISTAKE

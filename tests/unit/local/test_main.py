"""`distill`, the one program: its verbs, and what it says when a job cannot be run."""

import argparse
import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest

from distillery.api.kinds import KINDS
from distillery.api.result import USER_MISTAKE, StageResult
from distillery.local import __main__ as program
from distillery.local import run
from distillery.local.run import StageFailed


def failing(*_: object) -> None:
    """As a stage that cannot reach its store."""
    raise StageFailed("train", 75, StageResult(reason="StoreUnavailable", message="gone"), Path("/work/train/log.txt"))


def said_and_code(manifest: str, capsys: pytest.CaptureFixture[str]) -> tuple[str, int]:
    """What the command prints, and its exit code."""
    code = program.main(["run", manifest])
    return capsys.readouterr().out, code


def test_a_failed_stage_is_a_sentence_and_the_stages_own_code(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """Whole: brackets in it are no markup of the terminal."""
    monkeypatch.setattr(run, "run_job", failing)
    sentence = "stage train failed (StoreUnavailable): gone [log: /work/train/log.txt]\n"
    assert said_and_code("examples/minimal.yaml", capsys) == (sentence, 75)


def test_a_missing_manifest_is_the_users_mistake(capsys: pytest.CaptureFixture[str]) -> None:
    """It is named as it was given."""
    said, code = said_and_code("no [file: x].yaml", capsys)
    assert said.startswith("no [file: x].yaml: ")
    assert code == USER_MISTAKE


def test_one_parser_knows_every_verb(capsys: pytest.CaptureFixture[str]) -> None:
    """Of people and of pods; each explains itself."""
    verbs = {"run", "plan", "watch", *KINDS}
    actions = [action for action in program.parser()._actions if isinstance(action, argparse._SubParsersAction)]
    assert [set(action.choices) for action in actions] == [verbs]
    for verb in verbs:
        with pytest.raises(SystemExit) as ended:
            program.main([verb, "--help"])
        assert ended.value.code == 0
        assert capsys.readouterr().out.startswith(f"usage: distill {verb} ")


def test_a_pod_of_a_stage_needs_no_library_of_the_control_plane() -> None:
    """Nor of a person's terminal: its image has none of them, and its process waits for none."""
    others = {"kopf", "kubernetes", "aiohttp", "sqlalchemy", "genai_prices", "prometheus_client", "rich", "torch"}
    code = f"import sys; from distillery.local.__main__ import parser; parser(); print({others} & set(sys.modules))"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    assert subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True, env=environment).stdout == "set()\n"


def test_a_watch_of_a_terminal_says_what_to_give_it() -> None:
    """It would wait for ever for what nobody types."""
    ours, theirs = pty.openpty()
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-m", "distillery.local", "watch"]
    ended = subprocess.run(command, stdin=theirs, capture_output=True, text=True, env=environment, timeout=60)
    os.close(ours)
    os.close(theirs)
    assert ended.returncode == USER_MISTAKE
    assert "distill watch < <(kubectl get dj NAME --watch -o json)" in ended.stderr

"""The command line, as the operator's pods call it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest
from tests.unit.trainer import tiny

from distillery.api.kinds import KINDS
from distillery.local.__main__ import main
from distillery_trainer.runner import execute


@pytest.fixture(autouse=True)
def _signals() -> Iterator[None]:
    before = signal.getsignal(signal.SIGTERM)
    yield
    signal.signal(signal.SIGTERM, before)


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_stage_is_a_subcommand_and_has_its_module(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[object] = []
    monkeypatch.setattr(execute, "execute", lambda name, *arguments: calls.append(name) or 0)
    assert main([kind, "--hash", "ab"]) == 0
    assert calls == [kind]
    assert find_spec(f"{execute.STAGES}.{kind}") is not None


def test_arguments_of_a_stage(monkeypatch: pytest.MonkeyPatch) -> None:
    """--stage defaults to the kind; --inputs may be empty."""
    calls: list[tuple[object, ...]] = []
    monkeypatch.setattr(execute, "execute", lambda *arguments: calls.append(arguments) or 0)
    assert main(["export", "--stage", "export-q4", "--hash", "ab", "--inputs", "traces=1", "train=2"]) == 0
    assert main(["preflight"]) == 0
    assert main(["traces", "--hash", "ab", "--inputs"]) == 0
    assert calls == [
        ("export", "export-q4", "ab", {"traces": "1", "train": "2"}),
        ("preflight", "preflight", "", {}),
        ("traces", "traces", "ab", {}),
    ]


@pytest.mark.parametrize("arguments", [[], ["nonsense"], ["train"], ["train", "--hash", "a", "--inputs", "traces"]])
def test_wrong_arguments(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """argparse says what is wrong."""
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    assert caught.value.code == 2
    assert "usage: distill" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("module", "absent"),
    [
        ("cli", {"torch", "transformers", "boto3"}),
        ("runner.execute", {"torch", "transformers", "boto3"}),
        ("stages.publish", {"torch", "transformers"}),
        ("stages.traces_endpoint", {"torch", "transformers"}),
    ],
)
def test_what_loads_no_model_imports_no_torch(module: str, absent: set[str]) -> None:
    """A pod that only adopts, asks or publishes is up in a second and stays small: half a GiB for each shard that asks."""
    code = f"import sys; import distillery_trainer.{module}; print({absent} & set(sys.modules))"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    assert subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True, env=environment).stdout == "set()\n"


def test_process_ends_with_the_stages_code(tmp_path: Path) -> None:
    """As a process of its own, with its environment alone; what is wrong with the output is told before torch is loaded."""
    spec = {
        "teacher": {"model": {"uri": "file:///nowhere"}},
        "student": {"fromTeacher": {"numHiddenLayers": 1}},
        "data": {"train": {"uri": "file:///nowhere.jsonl"}},
        "output": {"uri": "pvc://claim/out"},
    }
    place = tiny.Place(tmp_path, spec)
    environment = {**os.environ, **place.environment, "DISTILLERY_VOLUMES": str(tmp_path / "volumes")}
    ended = subprocess.run([sys.executable, "-m", "distillery.local", "preflight"], env=environment, capture_output=True, text=True)
    assert ended.returncode == 64, ended.stderr
    assert place.result().reason == "NotFound"
    assert "NotFound: spec.output.uri 'pvc://claim/out'" in ended.stderr
    assert "Traceback" not in ended.stderr

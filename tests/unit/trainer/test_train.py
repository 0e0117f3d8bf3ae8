"""The train stage, run as its pod runs it: the losses of a run that was stopped or killed are those of one that was not."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.unit.trainer import tiny
from tests.unit.trainer.pipeline import HASHES, TRAINING, copied, execute, finished, specification, succeed, trace
from transformers import AutoModelForCausalLM, AutoTokenizer

from distillery.api.training import Training
from distillery_trainer.runner.progress import Reporter
from distillery_trainer.stages import train
from distillery_trainer.training.checkpoint import Checkpoints

#: In the log, what depends on the machine.
TIMES = ("tokensPerSecond",)


@pytest.fixture(scope="module")
def traced(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with teacher, rows, and finished traces and curate stages."""
    root = tmp_path_factory.mktemp("traced")
    trace(root)
    return root


@pytest.fixture
def root(traced: Path, tmp_path: Path) -> Path:
    """A copy, in which a test may train."""
    return copied(traced, tmp_path)


def history(files: Path) -> list[dict[str, Any]]:
    """The log without times."""
    lines = [json.loads(line) for line in (files / "log.jsonl").read_text().splitlines()]
    return [{name: value for name, value in line.items() if name not in TIMES} for line in lines]


@pytest.fixture(scope="module")
def straight(traced: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The files of an undisturbed run."""
    root = copied(traced, tmp_path_factory.mktemp("straight"))
    return succeed(root, "train", specification(root))[1]


def same_model(left: Path, right: Path) -> bool:
    """Whether the weights are equal to the last bit."""
    return (left / "model" / "model.safetensors").read_bytes() == (right / "model" / "model.safetensors").read_bytes()


def test_a_run_leaves_a_model_that_loads_and_a_log_of_every_step(root: Path) -> None:
    manifest, files = succeed(root, "train", specification(root))
    log = history(files)
    assert [line["step"] for line in log] == list(range(1, 13))
    assert sum(line["loss"] for line in log[-3:]) < sum(line["loss"] for line in log[:3])
    assert log[0]["loss"] == pytest.approx(0.5 * log[0]["response"] + 0.5 * log[0]["hardLabel"], rel=1e-5)
    model, words = AutoModelForCausalLM.from_pretrained(files / "model"), AutoTokenizer.from_pretrained(files / "model")
    assert model.config.vocab_size == 320
    assert words.chat_template == tiny.CHATML
    assert manifest.lineage["student"]["parameters"] == sum(p.numel() for p in model.parameters())
    assert manifest.counts["steps"] == 12
    assert not [path for path in (root / "out" / f"stages/train-{HASHES['train']}" / "work").rglob("*") if path.is_file()]


class Killed(BaseException):
    """The process ends here."""


@pytest.mark.parametrize("step", [3, 5, 6, 11])
def test_a_killed_run_goes_on_bit_for_bit(root: Path, straight: Path, monkeypatch: pytest.MonkeyPatch, step: int) -> None:
    whole = train.accumulate
    monkeypatch.setattr(train, "accumulate", lambda run, at: whole(run, at) if at < step else (_ for _ in ()).throw(Killed()))
    with pytest.raises(Killed):
        execute(root, "train", specification(root))
    monkeypatch.setattr(train, "accumulate", whole)
    _, files = succeed(root, "train", specification(root))
    assert history(files) == history(straight)
    assert same_model(files, straight)


def test_sigterm_saves_a_checkpoint_and_says_where_training_goes_on(root: Path, straight: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    report = Reporter.report

    def terminated_at_seven(self: Reporter, done: int, *rest: Any, **more: Any) -> None:
        report(self, done, *rest, **more)
        if done == 7:
            os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(Reporter, "report", terminated_at_seven)
    code, job = execute(root, "train", specification(root))
    assert code == 143
    assert job.result().reason == "Terminated"
    assert job.result().message == "SIGTERM after 7 of 12 steps; training goes on from there"
    kept = sorted(path.name for path in (root / "out" / f"stages/train-{HASHES['train']}" / "work" / "uid-1").iterdir())
    assert kept == ["checkpoint-5", "checkpoint-7"]
    monkeypatch.undo()
    assert history(succeed(root, "train", specification(root))[1]) == history(straight)


def test_another_job_does_not_read_the_checkpoints(root: Path, straight: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    saved: list[int] = []
    save = Checkpoints.save
    monkeypatch.setattr(Checkpoints, "save", lambda self, state: (saved.append(state.step), save(self, state)))
    whole = train.accumulate
    monkeypatch.setattr(train, "accumulate", lambda run, at: whole(run, at) if at < 7 else (_ for _ in ()).throw(Killed()))
    with pytest.raises(Killed):
        execute(root, "train", specification(root))
    monkeypatch.setattr(train, "accumulate", whole)
    assert execute(root, "train", specification(root), uid="uid-2")[0] == 0
    assert saved == [5, 5, 10]
    assert history(finished(root, "train")[1]) == history(straight)


@pytest.mark.parametrize("micro", [1, 2])
def test_accumulated_micro_batches_give_the_same_curve(root: Path, straight: Path, micro: int) -> None:
    _, files = succeed(root, "train", specification(root, training={**TRAINING, "microBatchSize": micro}))
    losses = [line["loss"] for line in history(files)]
    assert losses == pytest.approx([line["loss"] for line in history(straight)], rel=1e-4)


def test_adapters_alone_are_trained_and_are_merged_at_the_end(root: Path) -> None:
    student = {"fromTeacher": {"numHiddenLayers": 1}, "lora": {"rank": 4, "alpha": 8}}
    _, files = succeed(root, "train", specification(root, student=student))
    tuned = AutoModelForCausalLM.from_pretrained(files / "model").state_dict()
    before = AutoModelForCausalLM.from_pretrained(root / "teacher").state_dict()
    changed = {name for name, tensor in tuned.items() if not torch.equal(tensor, before[name].half().float())}
    assert changed
    assert all("_proj" in name for name in changed)
    losses = [line["loss"] for line in history(files)]
    assert sum(losses[-3:]) < sum(losses[:3])


@pytest.mark.parametrize(
    "objectives", [[{"response": {"temperature": "1", "weight": "1"}}], [{"hardLabel": {"weight": "1"}}]], ids=["soft", "hard"]
)
def test_either_objective_alone(root: Path, objectives: list[dict[str, Any]]) -> None:
    _, files = succeed(root, "train", specification(root, method={"rounds": [{"objectives": objectives}]}))
    log = history(files)
    assert ("response" in log[0], "hardLabel" in log[0]) == ("response" in objectives[0], "hardLabel" in objectives[0])


def test_a_diverging_run_ends_with_the_remedy(root: Path) -> None:
    code, job = execute(root, "train", specification(root, training={**TRAINING, "learningRate": "1e30", "warmupRatio": "0"}))
    assert code == 64
    assert "training.learningRate: the" in job.result().message
    assert "lower it (try a tenth)" in job.result().message


def test_a_gpu_that_is_too_small_is_told_with_the_remedy(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(train, "accumulate", lambda *_: (_ for _ in ()).throw(torch.OutOfMemoryError("CUDA out of memory")))
    code, job = execute(root, "train", specification(root))
    assert (code, job.result().reason) == (64, "DoesNotFit")
    assert "the GPU's memory does not hold 4 rows at once: lower training.microBatchSize" in job.result().message


@pytest.mark.parametrize(
    ("schedule", "rates"),
    [("constant", [0.5, 1.0, 1.0, 1.0, 1.0]), ("linear", [0.5, 1.0, 1.0, 0.875, 0.125]), ("cosine", [0.5, 1.0, 1.0, 0.9619, 0.0381])],
)
def test_the_learning_rate_rises_and_falls(schedule: str, rates: list[float]) -> None:
    training = Training.model_validate({"learningRate": "1", "warmupRatio": "0.2", "schedule": schedule})
    found = [train.learning_rate(step, 10, training) for step in (0, 1, 2, 3, 9)]
    assert found == pytest.approx(rates, abs=1e-4)


def test_norms_and_biases_are_not_decayed() -> None:
    parameters = {"w": torch.nn.Parameter(torch.ones(2, 2)), "b": torch.nn.Parameter(torch.ones(2))}
    optimizer = train.make_optimizer(parameters, Training.model_validate({"weightDecay": "0.1"}), torch.device("cpu"))
    assert [(len(g["params"]), g["weight_decay"]) for g in optimizer.param_groups] == [(1, 0.1), (1, 0.0)]


@pytest.mark.slow
def test_a_process_killed_with_signal_9_goes_on_bit_for_bit(root: Path) -> None:
    spec = specification(root, training={**TRAINING, "maxSteps": 200, "checkpoint": {"everySteps": 3}})
    job = tiny.Place(root, spec)
    inputs = [f"{kind}={HASHES[kind]}" for kind in ("traces", "curate")]
    arguments = [sys.executable, "-m", "distillery.local", "train", "--hash", HASHES["train"], "--inputs", *inputs]
    environment = {**os.environ, **job.environment, "OMP_NUM_THREADS": "1"}
    checkpoints = root / "out" / f"stages/train-{HASHES['train']}" / "work" / "uid-1"
    for more in (4, 9, 20):
        process = subprocess.Popen(arguments, env=environment, stderr=subprocess.DEVNULL)
        start = _newest(checkpoints)
        deadline = time.monotonic() + 300
        while _newest(checkpoints) < start + more:
            assert time.monotonic() < deadline
            with contextlib.suppress(subprocess.TimeoutExpired):
                pytest.fail(f"it ended by itself with {process.wait(timeout=0.02)}")
        process.kill()
        assert process.wait() == -signal.SIGKILL
        shutil.rmtree(root / "work", ignore_errors=True)
    assert subprocess.run(arguments, env=environment, check=False).returncode == 0
    killed = history(finished(root, "train")[1])
    shutil.rmtree(root / "out" / f"stages/train-{HASHES['train']}")
    shutil.rmtree(root / "fetched")
    assert subprocess.run(arguments, env=environment, check=False).returncode == 0
    assert killed == history(finished(root, "train")[1])


def _newest(folder: Path) -> int:
    return max((int(name.rpartition("-")[2]) for name in os.listdir(folder)), default=0) if folder.exists() else 0

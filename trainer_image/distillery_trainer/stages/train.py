"""The train stage: one loop that reads from top to bottom. Files: model/ (Hugging Face layout, float32), log.jsonl (one line a step).

AdamW (Loshchilov & Hutter, 2019, arXiv 1711.05101) with betas 0.9 and 0.999 and decay on matrices only; warm-up, then the job's schedule;
the gradient's norm is clipped. A stopped or killed run goes on from its newest checkpoint with the same losses: bit for bit on a CPU with
the same number of threads.
"""

from __future__ import annotations

import logging
import math
import resource
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from distillery.api import reasons
from distillery.api.base import number
from distillery.api.job import DistillationJobSpec
from distillery.api.method import Method
from distillery.api.result import StageResult
from distillery.api.training import Training
from distillery_trainer.data.examples import kept_ids, write_lines
from distillery_trainer.data.traces import TRAIN_LINES, TraceLine, Traces, open_traces
from distillery_trainer.errors import StageError, Stopped
from distillery_trainer.models.device import autocast, pick_device, set_threads, training_dtype
from distillery_trainer.models.files import count_parameters
from distillery_trainer.models.scoring import Scorer
from distillery_trainer.objectives.kernel import distillation_loss
from distillery_trainer.objectives.terms import Weights
from distillery_trainer.runner.context import Outcome, StageContext
from distillery_trainer.signal.read import Signal, TopKSignal, open_signal
from distillery_trainer.student.make import Student, make_student
from distillery_trainer.training.batches import TrainingRow, batch_at, collate, micro_batches, planned_steps, tokenized
from distillery_trainer.training.checkpoint import Checkpoints, TrainingState
from distillery_trainer.training.optimizer import learning_rate, make_optimizer, trained_parameters

log = logging.getLogger(__name__)
STOPS_ITSELF = True
Line = dict[str, Any]


@dataclass(frozen=True)
class Run:
    """Everything that is fixed before the first step."""

    training: Training
    student: Student
    rows: list[TrainingRow]
    signal: Signal | TopKSignal | None
    weights: Weights
    steps: int
    device: torch.device
    dtype: torch.dtype


def run(context: StageContext) -> Outcome:
    """Train the student on the rows that were kept, and leave the model that is evaluated, exported and published."""
    spec = context.job.spec
    traces = open_traces(context, TRAIN_LINES, "signal-train-*", "head.safetensors", "teacher/*")
    lines = traces.train(kept_ids(context.fetch("curate", "kept.jsonl") / "kept.jsonl"))
    setup = prepare(spec, make_student(spec, traces.teacher, context.work), lines, traces)
    checkpoints = Checkpoints(context.output, context.work_folder, context.work / "checkpoints")
    threads = set_threads(count_parameters(setup.student.model))
    log.info(
        "%d rows, %d steps on %s with %d threads; %.2fM parameters, %.2fM of them trained",
        len(setup.rows), setup.steps, setup.device, threads,
        count_parameters(setup.student.model) / 1e6, sum(p.numel() for p in trained_parameters(setup.student).values()) / 1e6,
    )  # fmt: skip
    try:
        history = train(setup, checkpoints, context)
    except torch.OutOfMemoryError as error:
        text = f"the GPU's memory does not hold {setup.training.micro_batch_size or setup.training.global_batch_size} rows at once"
        remedy = "lower training.microBatchSize (the result stays the same) or training.maxSequenceLength, or use student.lora"
        raise StageError(reasons.DOES_NOT_FIT, f"training: {text}: {remedy} ({str(error)[:200]})") from error
    folder = context.new_folder("output")
    end = traces.record.end_of_turn or setup.student.renderer.end
    setup.student.save(folder / "model", int(end[-1]))
    write_lines(folder / "log.jsonl", history)
    return _outcome(folder, setup, history, threads)


def prepare(spec: DistillationJobSpec, student: Student, lines: list[TraceLine], traces: Traces) -> Run:
    """Move the student to its device and tokenize the rows. StageError where rows, student and signal do not go together."""
    device, training = pick_device(), spec.training
    torch.nn.Module.to(student.model, device)
    weights = weights_of(spec.method)
    rows = tokenized(lines, student)
    # refuses a family whose logits are made in a way that the loss does not know
    Scorer(student.model, "hiddenState", student.field).score([(rows[0].prompt, rows[0].completion)])
    signal = open_signal(traces, device, int(student.head.weight.shape[0])) if weights.response else None
    steps = planned_steps(len(rows), training.global_batch_size, training.max_steps, training.epochs)
    return Run(training, student, rows, signal, weights, steps, device, training_dtype(training.precision, device))


def train(run: Run, checkpoints: Checkpoints, context: StageContext) -> list[Line]:
    """All steps that are still to be done; returns the log of all. Stopped after SIGTERM, when the checkpoint is in the store."""
    parameters = trained_parameters(run.student)
    optimizer = make_optimizer(parameters, run.training, run.device)
    torch.manual_seed(run.training.seed)
    state = TrainingState(0, parameters, optimizer, [])
    checkpoints.restore(state)
    saved = state.step
    run.student.model.train()
    while state.step < run.steps:
        if context.stopping.is_set():
            if state.step > saved:
                checkpoints.save(state)
            raise Stopped(f"SIGTERM after {state.step} of {run.steps} steps; training goes on from there")
        began = time.perf_counter()
        rate = learning_rate(state.step, run.steps, run.training)
        for group in optimizer.param_groups:
            group["lr"] = rate
        line = {"step": state.step + 1, **accumulate(run, state.step), "learningRate": rate}
        norm = torch.nn.utils.clip_grad_norm_(list(parameters.values()), number(run.training.max_grad_norm))
        line["gradientNorm"] = _finite(norm.item(), "gradient", line["step"])
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        line["tokensPerSecond"] = round(line["tokens"] / (time.perf_counter() - began))
        state.step += 1
        state.log.append(line)
        if state.step % run.training.checkpoint.every_steps == 0 and state.step < run.steps:
            checkpoints.save(state)
            saved = state.step
        context.progress.report(state.step, run.steps, "steps", _shown(line), checkpoint_step=saved)
    run.student.model.train(False)
    return state.log


def accumulate(run: Run, step: int) -> Line:
    """Gradients of one global batch, by micro batches; its mean losses in nats per completion token."""
    size, last = run.training.global_batch_size, None if run.training.max_steps else len(run.rows) * run.training.epochs
    batch = [run.rows[index] for index in batch_at(step, len(run.rows), size, run.training.seed, last)]
    valid = sum(len(row.completion) for row in batch)
    total = response = hard_label = 0.0
    for rows in micro_batches(batch, run.training.micro_batch_size or size):
        tensors = collate(rows, run.device)
        with autocast(run.dtype, run.device):
            states = run.student.hidden(tensors.ids)
        wanted = states.flatten(0, 1).index_select(0, tensors.positions)
        teacher = run.signal.of(rows) if run.signal else None
        loss = distillation_loss(wanted, run.student.head, tensors.targets, teacher, run.weights, valid, dtype=run.dtype)
        loss.total.backward()  # type: ignore[no-untyped-call]
        total += loss.total.item()
        response += loss.response_sum.item() / valid
        hard_label += loss.hard_label_sum.item() / valid
    parts = {**({"response": response} if run.weights.response else {}), **({"hardLabel": hard_label} if run.weights.hard_label else {})}
    return {"loss": _finite(total, "loss", step + 1), **parts, "tokens": sum(row.tokens for row in batch)}


def weights_of(method: Method) -> Weights:
    """The factors of the losses; an objective that is absent has none."""
    response, hard_label = method.response(), method.hard_label()
    return Weights(
        number(response.weight) if response else 0.0,
        number(hard_label.weight) if hard_label else 0.0,
        number(response.temperature) if response else 1.0,
    )


def _finite(value: float, what: str, step: int) -> float:
    if math.isfinite(value):
        return value
    text = f"the {what} became {value} at step {step}: training diverged"
    raise StageError(reasons.BAD_INPUT, f"training.learningRate: {text}; lower it (try a tenth), or raise training.warmupRatio")


def _shown(line: Line) -> dict[str, float]:
    return {name: float(line[name]) for name in ("loss", "response", "hardLabel", "learningRate", "tokensPerSecond") if name in line}


def _outcome(folder: Path, run: Run, history: list[Line], threads: int) -> Outcome:
    last = history[-10:]
    loss = sum(line["loss"] for line in last) / len(last)
    gpu = run.device.type == "cuda"
    peak = torch.cuda.max_memory_allocated() if gpu else resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    speed = sum(line["tokens"] for line in history) / sum(line["tokens"] / max(1, line["tokensPerSecond"]) for line in history)
    metrics = {"loss": loss, "firstLoss": history[0]["loss"], "steps": run.steps, "tokensPerSecond": speed, "peakMemoryBytes": peak}
    lineage = {
        "student": {
            "parameters": count_parameters(run.student.model),
            "modelType": run.student.model.config.model_type,
            **({"license": run.student.license} if run.student.license else {}),
            "layers": int(run.student.model.config.num_hidden_layers),
            "hiddenSize": int(run.student.model.config.hidden_size),
            "chatTemplate": run.student.renderer.template,
        },
        "device": torch.cuda.get_device_name() if gpu else f"cpu, {threads} threads",
        "dtype": str(run.dtype).removeprefix("torch."),
        "rows": len(run.rows),
        "steps": run.steps,
        "torch": torch.__version__,
    }
    text = f"{run.steps} steps on {len(run.rows)} rows; loss {history[0]['loss']:.4g} to {loss:.4g}, {speed:.0f} tokens/s"
    return Outcome(folder, StageResult(message=text), lineage, metrics, {"rows": len(run.rows), "steps": run.steps})

"""The traces stage: the one that loads the teacher (endpoint/traces.py asks one behind an API), so that no later stage does.

Files: train.jsonl, heldout.jsonl, signal-<split>-<number>.safetensors, head.safetensors (for hidden states), teacher/, dropped.jsonl.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import Any

from safetensors.torch import save_file

from distillery.api import reasons
from distillery.api.base import number
from distillery.api.result import StageResult
from distillery_trainer.data.examples import Dropped, Example, fitting, write_lines
from distillery_trainer.data.selection import read, require_rows, select
from distillery_trainer.data.traces import HELD_OUT_LINES, TRAIN_LINES, SignalRecord, TracesRecord
from distillery_trainer.errors import StageError, Stopped
from distillery_trainer.models.scoring import Scorer, Tally, signal_kind
from distillery_trainer.runner.context import Outcome, StageContext
from distillery_trainer.signal.write import write_signal
from distillery_trainer.teacher.answering import Decoding, answer
from distillery_trainer.teacher.weights import Teacher, load_teacher

log = logging.getLogger(__name__)
STOPS_ITSELF = True


@dataclass
class _Run:
    """One run of the stage."""

    context: StageContext
    teacher: Teacher
    #: Most tokens of a row.
    limit: int
    dropped: Dropped
    done: int = 0
    total: int = 0

    def tick(self, rows: int) -> None:
        """Rows were answered or scored."""
        self.done += rows
        self.context.progress.report(self.done, self.total, "rows")
        if self.context.stopping.is_set():
            raise Stopped(f"SIGTERM after {self.done} of {self.total} rows; finished parts are kept and read again")


def run(context: StageContext) -> Outcome:
    """Read the rows, let the teacher write what is missing, score every completion."""
    spec = context.job.spec
    if spec.teacher.model is None:
        raise StageError(reasons.INVALID_SPEC, "spec: this traces stage needs teacher.model")
    given = read(spec, context.work)
    teacher = load_teacher(spec.teacher.model, context.work)
    limit = min(spec.training.max_sequence_length, teacher.positions)
    rows = select(spec, given, teacher.renderer, limit)
    stage, train, held = _Run(context, teacher, limit, rows.dropped), rows.train, rows.held
    soft = spec.method.response() is not None
    stage.total = sum(not e.completion_ids for e in train) + len(held) * 2 + (len(train) if soft else 0)
    train = _complete(stage, train)
    _answer_held_out(stage, held)
    require_rows(train, held, stage.dropped)
    return _written(stage, train, held, soft)


def _complete(stage: _Run, train: list[Example]) -> list[Example]:
    """Have the teacher write the completions that rows of format `prompt` lack; those that were cut or became too long are dropped."""
    spec, renderer = stage.context.job.spec, stage.teacher.renderer
    missing = [example for example in train if not example.completion_ids]
    if not missing or spec.teacher.model is None:
        return train
    sampling = spec.teacher.model.sampling
    how = Decoding(sampling.max_completion_tokens, number(sampling.temperature), sampling.seed, spec.evaluation.generation.batch_size)
    for example, ids in zip(missing, _answers(stage, missing, how, "train"), strict=True):
        if not ids or ids[-1] not in renderer.stop_ids:
            stage.dropped.add(example.row, "train", "cut")
        else:
            example.completion_ids, example.completion = ids, renderer.text(ids)
    whole = [example for example in train if example.completion_ids]
    return fitting(whole, "train", stage.limit, spec.data.overflow, stage.dropped)


def _answer_held_out(stage: _Run, held: list[Example]) -> None:
    """The teacher's greedy answer to each held-out row; it is the reference too where the row has none."""
    generation = stage.context.job.spec.evaluation.generation
    how = Decoding(generation.max_new_tokens, 0.0, 0, generation.batch_size)
    for example, ids in zip(held, _answers(stage, held, how, "heldout"), strict=True):
        example.teacher_answer = stage.teacher.renderer.text(ids)
        if not example.completion_ids:
            example.completion_ids, example.completion = ids, example.teacher_answer


def _answers(stage: _Run, examples: list[Example], how: Decoding, split: str) -> list[list[int]]:
    context = stage.context
    work = context.work / "answers" / split
    return answer(stage.teacher, examples, how, context.output, f"{context.work_folder}/answers-{split}", work, stage.tick)


def _written(stage: _Run, train: list[Example], held: list[Example], soft: bool) -> Outcome:
    context, teacher = stage.context, stage.teacher
    folder = context.new_folder("output")
    response = context.job.spec.method.response()
    scorer = Scorer(teacher.model, signal_kind(response.signal if response else "auto", teacher.model))
    signal_folder = f"{context.work_folder}/signal"
    trained = write_signal(scorer, train, "train", folder, context.output, signal_folder, stage.tick) if soft else Tally()
    tested = write_signal(scorer, held, "heldout", folder, context.output, signal_folder, stage.tick)
    if scorer.kind == "hiddenState":
        head = {"weight": scorer.head.weight, **({} if scorer.head.bias is None else {"bias": scorer.head.bias})}
        save_file({name: tensor.cpu().contiguous().clone() for name, tensor in head.items()}, folder / "head.safetensors")
    teacher.save(folder / "teacher")
    write_lines(folder / TRAIN_LINES, (example.wire() for example in train))
    write_lines(folder / HELD_OUT_LINES, (example.wire() for example in held))
    write_lines(folder / "dropped.jsonl", stage.dropped.lines)
    tally = trained if trained.tokens else tested
    metrics = {"trainRows": len(train), "heldOutRows": len(held), "droppedRows": len(stage.dropped.lines), **_means(tally)}
    return Outcome(
        folder,
        StageResult(message=_message(metrics, stage.dropped.told())),
        _lineage(stage, scorer, metrics["teacherEntropy"]),
        metrics,
        {"train": len(train), "heldOut": len(held), "dropped": len(stage.dropped.lines), "tokens": trained.tokens + tested.tokens},
    )


def _means(tally: Tally) -> dict[str, float]:
    """Per completion token, in nats: how unsure the teacher is, and how well it predicts the text."""
    return {"teacherEntropy": tally.entropy / tally.tokens, "teacherCrossEntropy": tally.negative_log_likelihood / tally.tokens}


def _message(metrics: dict[str, float], dropped: str) -> str:
    kept = f"{metrics['trainRows']:.0f} training and {metrics['heldOutRows']:.0f} held-out rows"
    return f"{kept}; teacher's entropy {metrics['teacherEntropy']:.3g} nats/token" + (f"; dropped: {dropped}" if dropped else "")


def _lineage(stage: _Run, scorer: Scorer, entropy: float) -> dict[str, Any]:
    spec, head = stage.context.job.spec, scorer.head
    evaluation = spec.data.evaluation
    signal = SignalRecord(
        kind=scorer.kind,
        dtype=str(stage.teacher.model.dtype).removeprefix("torch."),
        width=int(head.weight.shape[0 if scorer.kind == "logits" else 1]),
        logit_scale=head.scale,
        logit_softcap=head.softcap,
    )
    return TracesRecord(
        teacher=stage.teacher.record(),
        signal=signal,
        answer=evaluation.answer.wire() if evaluation and evaluation.answer else None,
        mean_entropy=entropy,
        end_of_turn=list(stage.teacher.renderer.end),
        format=spec.data.train.format if spec.data.train else None,
        chat_template=stage.teacher.renderer.template,
    ).wire()

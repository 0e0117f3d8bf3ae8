"""The evaluate stage: trained student and untrained baseline on the held-out rows, beside what the traces say of the teacher.

Files: evaluation.json (EvaluationResult), answers.jsonl (the student's: id, answer). Gates are looked at after the commit, and again when
the result is adopted: they are not part of what was measured.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch

from distillery.api import reasons
from distillery.api.measure import EvaluationResult, EvaluationRow, Generation
from distillery.api.result import StageResult
from distillery_trainer.data.examples import write_lines
from distillery_trainer.data.templates import Renderer, template_of
from distillery_trainer.errors import StageError
from distillery_trainer.measure.gates import check_gates
from distillery_trainer.measure.held_out import HeldOut, held_out
from distillery_trainer.measure.metrics import TokenSums, decimal
from distillery_trainer.models.device import pick_device, set_threads
from distillery_trainer.models.endings import end_ids
from distillery_trainer.models.files import ModelFiles, count_parameters, read_model, read_tokenizer
from distillery_trainer.models.generate import generate
from distillery_trainer.models.scoring import Scorer, padded_batches
from distillery_trainer.objectives.kernel import chunk_rows
from distillery_trainer.runner.context import Outcome, StageContext
from distillery_trainer.runner.manifest import Manifest
from distillery_trainer.signal.read import Signal
from distillery_trainer.student.make import Student, make_student
from distillery_trainer.training.batches import TrainingRow, tokenized

log = logging.getLogger(__name__)
#: Tokens, padding included, of one forward pass.
_BATCH_TOKENS = 4096


@dataclass(frozen=True)
class Measured:
    """One model on the held-out rows."""

    answers: list[str]
    sums: TokenSums
    parameters: int


def run(context: StageContext) -> Outcome:
    """Measure both and write the table."""
    spec = context.job.spec
    held = held_out(context, "signal-heldout-*", "head.safetensors", "teacher/*")
    done, total = 0, 4 * len(held.lines)

    def tick(rows: int) -> None:
        nonlocal done
        done += rows
        context.progress.report(done, total, "rows")

    measure = Measure(held, spec.evaluation.generation, tick)
    trained = trained_student(context)
    set_threads(count_parameters(trained.model))
    student = measure.of(trained)
    baseline = measure.of(make_student(spec, held.traces.teacher, context.work))
    evaluation = table(held, student, baseline)
    folder = context.new_folder("output")
    (folder / "evaluation.json").write_text(evaluation.model_dump_json(by_alias=True, exclude_none=True, indent=1))
    write_lines(folder / "answers.jsonl", held.named(student.answers))
    metrics = {row.metric: float(row.student) for row in evaluation.results if row.student is not None}
    return Outcome(folder, StageResult(message=_told(evaluation), evaluation=evaluation), {}, metrics, {"rows": len(held.lines)})


def conclude(context: StageContext, manifest: Manifest) -> StageResult:
    """Check the job's gates against what was measured. StageError QualityGateFailed, which carries the table, if one is missed."""
    result = manifest.result
    measured = result.evaluation or EvaluationResult()
    misses = check_gates(measured, context.job.spec.evaluation.gates)
    result = result.model_copy(update={"evaluation": measured.model_copy(update={"passed": not misses})})
    if misses:
        remedy = "train longer or with more rows, take a larger student, or lower the gate; the trained model stays in the store"
        raise StageError(reasons.QUALITY_GATE_FAILED, f"spec.evaluation.gates: {'; '.join(misses)}: {remedy}", result=result)
    return result


def trained_student(context: StageContext) -> Student:
    """The model that the train stage left, with its published template."""
    folder = context.fetch("train", "model/*") / "model"
    files = ModelFiles(folder, None, context.output.uri(context.folder("train")), "output")
    tokenizer = read_tokenizer(files)
    model = read_model(files, torch.float32)
    return Student(model, tokenizer, Renderer(tokenizer, template_of(tokenizer), end_ids(model.generation_config)), "spec.student")


@dataclass(frozen=True)
class Measure:
    """What is asked of a model, in the same way of each."""

    held: HeldOut
    generation: Generation
    tick: Callable[[int], None]

    def of(self, student: Student) -> Measured:
        """Greedy answers to all rows, and the student's distribution over the reference completions against the teacher's."""
        device, held = pick_device(), self.held
        torch.nn.Module.to(student.model, device)
        student.model.train(False)
        rows = tokenized(held.lines, student)
        record, vocab = held.traces.record.signal, int(student.head.weight.shape[0])
        signal = Signal(held.traces.folder, record, device, vocab) if record is not None and held.white_box else None
        sums = score(student, rows, signal, self.tick)
        told = 0

        def on_batch(done: int) -> None:
            nonlocal told
            self.tick(done - told)
            told = done

        ids = generate(
            student.model,
            student.tokenizer,
            [row.prompt for row in rows],
            self.generation.max_new_tokens,
            self.generation.batch_size,
            stop_ids=student.renderer.stop_ids,
            on_batch=on_batch,
        )
        return Measured([student.renderer.text(answer) for answer in ids], sums, count_parameters(student.model))


@torch.inference_mode()
def score(student: Student, rows: Sequence[TrainingRow], signal: Signal | None, tick: Callable[[int], None]) -> TokenSums:
    """Sums over all completion tokens of the rows; logits are held for one chunk at a time."""
    scorer, sums = Scorer(student.model, "hiddenState", student.field), TokenSums()
    head = scorer.head
    for batch in padded_batches(sorted(rows, key=lambda row: (row.tokens, row.id)), _BATCH_TOKENS):
        states, _ = scorer.score([(row.prompt, row.completion) for row in batch])
        hidden = torch.cat(states).to(head.weight.device)
        targets = torch.tensor([token for row in batch for token in row.completion], device=hidden.device)
        teacher = signal.logits([row.signal for row in batch]) if signal else None
        size = chunk_rows(len(targets), head.weight.shape[0], hidden.device)
        for start in range(0, len(targets), size):
            stop = min(start + size, len(targets))
            sums.add(head.logits(hidden[start:stop]).float(), teacher(start, stop) if teacher else None, targets[start:stop])
        tick(len(batch))
    return sums


def table(held: HeldOut, student: Measured, baseline: Measured) -> EvaluationResult:
    """One row per metric; retention is of label accuracy where the rows have true answers, else of exact match."""
    sides = [held.scores(answers) for answers in (held.teacher_answers, student.answers, baseline.answers)]
    scores = {metric: [side[metric] for side in sides] for metric in sides[0]}
    rows = [_compared(metric, *values) for metric, values in scores.items()]
    main = rows[-1]
    if main.retention is not None:
        teacher, _, untrained = scores[main.metric]
        rows.append(EvaluationRow(metric="retention", student=main.retention, baseline=decimal(untrained / teacher)))
    rows += _distributions(student.sums, baseline.sums, held.white_box)
    parameters = held.traces.record.teacher.parameters
    return EvaluationResult(
        results=rows,
        compression=decimal(parameters / student.parameters) if parameters else None,
        teacher_parameters=parameters,
        student_parameters=student.parameters,
        rows=len(held.lines),
    )


def _distributions(student: TokenSums, baseline: TokenSums, white_box: bool) -> list[EvaluationRow]:
    """What compares distributions; of the teacher only where its own is known."""
    likelihood = EvaluationRow(
        metric="perplexity",
        teacher=decimal(student.perplexity(student.teacher_nll)) if white_box else None,
        student=decimal(student.perplexity(student.student_nll)),
        baseline=decimal(baseline.perplexity(baseline.student_nll)),
    )
    if not white_box:
        return [likelihood]
    return [
        EvaluationRow(metric="teacherKL", student=decimal(student.mean_kl()), baseline=decimal(baseline.mean_kl())),
        EvaluationRow(metric="top1Agreement", student=decimal(student.agreement()), baseline=decimal(baseline.agreement())),
        likelihood,
    ]


def _compared(metric: str, teacher: float, student: float, baseline: float) -> EvaluationRow:
    row = EvaluationRow(metric=metric, teacher=decimal(teacher), student=decimal(student), baseline=decimal(baseline))
    return row.model_copy(update={"retention": decimal(student / teacher)}) if teacher else row


def _told(evaluation: EvaluationResult) -> str:
    rows = {row.metric: row for row in evaluation.results}
    main = rows.get("labelAccuracy") or rows["exactMatch"]
    kept = f", retention {main.retention}" if main.retention else ""
    text = f"{main.metric}: teacher {main.teacher}, student {main.student}, untrained {main.baseline}{kept}"
    text += f"; KL to the teacher {rows['teacherKL'].student} nats/token" if "teacherKL" in rows else ""
    return text + (f"; {evaluation.compression} times fewer parameters" if evaluation.compression else "")

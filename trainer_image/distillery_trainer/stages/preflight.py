"""The preflight stage: cheap, always run. It finds what would fail later, names each stage's output, and says which are already there."""

from __future__ import annotations

import logging

from transformers import PreTrainedModel

from distillery.api import reasons
from distillery.api.hashes import stage_hashes
from distillery.api.job import DistillationJobSpec
from distillery.api.result import StageResult
from distillery_trainer.checks import inputs
from distillery_trainer.checks.rehearsal import bare, rehearse, student_of
from distillery_trainer.checks.reuse import finished_stages
from distillery_trainer.checks.sizes import Sizes, require_fit
from distillery_trainer.checks.teaching import Teaching, from_endpoint, from_rows, from_traces
from distillery_trainer.checks.trial import try_models
from distillery_trainer.data.examples import Example
from distillery_trainer.data.templates import Renderer, shown
from distillery_trainer.errors import StageError
from distillery_trainer.models.files import count_parameters
from distillery_trainer.models.scoring import signal_kind
from distillery_trainer.runner.context import Outcome, StageContext
from distillery_trainer.stores.digests import digest_input, input_uris
from distillery_trainer.student.make import Student
from distillery_trainer.teacher.endpoint.introduction import too_long

log = logging.getLogger(__name__)
#: Rows that go through tokenizers and, where the models are small, through the models.
FIRST = 16


def run(context: StageContext) -> Outcome:
    """StageError for the first thing that is wrong; else hashes and what is reused."""
    spec = context.job.spec
    digests = {role: digest_input(uri, role, context.work) for role, uri in input_uris(spec).items()}
    teaching = _teaching(context)
    inputs.answers_can_be_found(spec, (example.row.truth for example in teaching.held))
    if teaching.endpoint:
        digests["teacher"] = teaching.endpoint.digest
    student = student_of(context, teaching)
    renderer = student.renderer
    if teaching.end:
        inputs.same_end(renderer, teaching.end, spec.data.chat_template)
    inputs.length_fits(student.model.config, teaching.longest, student.field)
    rehearse(spec, teaching, student)
    sizes = _sizes(context, teaching, student.model)
    require_fit(spec, sizes, context.output)
    _first_rows(context, teaching, student, sizes)
    hashes = stage_hashes(spec, digests, f"{context.job.namespace}/{context.job.name}/{context.job.uid}")
    reused = finished_stages(context, hashes)
    told = f"{len(teaching.train)} training and {len(teaching.held)} held-out rows; student of {sizes.student / 1e6:.3g}M parameters"
    told += f", teacher of {sizes.teacher / 1e6:.3g}M" if sizes.teacher else ""
    told += f"; left out: {teaching.dropped.told()}" if teaching.dropped.lines else ""
    told += _asked(spec, teaching, renderer)
    spelled = renderer.plain.in_prompts(example.row.prompt for example in (*teaching.train, *teaching.held))[1]
    told += f"; {spelled}" if spelled else ""
    told += f"; already there: {', '.join(reused)}" if reused else ""
    metrics = {
        **({} if teaching.endpoint else {"teacherParameters": float(sizes.teacher)}),
        "studentParameters": float(sizes.student),
        "signalBytes": float(sizes.signal_bytes),
        **(teaching.endpoint.metrics if teaching.endpoint else {}),
    }
    return Outcome(None, StageResult(message=told, hashes=hashes, reused=reused), metrics=metrics)


def _teaching(context: StageContext) -> Teaching:
    teacher = context.job.spec.teacher
    if teacher.traces:
        return from_traces(context)
    return from_endpoint(context) if teacher.endpoint else from_rows(context)


def _asked(spec: DistillationJobSpec, teaching: Teaching, renderer: Renderer) -> str:
    """How often a teacher behind an API will be asked. StageError where a prompt is too long and no row may be dropped."""
    if teaching.endpoint is None:
        return ""
    asks, limit = teaching.endpoint.asks, spec.training.max_sequence_length
    told = f"; {len(asks)} requests to {teaching.endpoint.info.teacher.name}"
    lost = too_long((ask for ask in asks if not ask.held_out), renderer, limit)
    if not lost:
        return told
    text = f"{lost} prompts alone have training.maxSequenceLength ({limit}) tokens or more"
    if spec.data.overflow == "fail":
        raise StageError(reasons.ROWS_INVALID, f"data.train: {text}: raise it, shorten them, or set data.overflow to drop")
    return f"{told}; {text}: their answers would be paid for and dropped, so shorten or remove them"


def _sizes(context: StageContext, teaching: Teaching, student: PreTrainedModel) -> Sizes:
    """At the very least: completions that are not written yet count one token."""
    if teaching.files is None or teaching.config is None:
        return Sizes(0, count_parameters(student), teaching.endpoint.signal_bytes if teaching.endpoint else 0, 0)
    teacher = bare(teaching.config, "spec.teacher.model")
    spec = context.job.spec
    response = spec.method.response()
    kind = signal_kind(response.signal if response else "auto", teacher)
    width = int(teaching.config.vocab_size if kind == "logits" else teaching.config.hidden_size)
    scored = [*(teaching.train if response else []), *teaching.held]
    tokens = sum(max(1, len(example.completion_ids)) for example in scored)
    return Sizes(count_parameters(teacher), count_parameters(student), 2 * width * tokens, teaching.files.weight_bytes)


def _first_rows(context: StageContext, teaching: Teaching, student: Student, sizes: Sizes) -> None:
    """Show one row; put the first rows through those models that are small enough to be loaded here."""
    renderer = student.renderer
    spec, first = context.job.spec, [e for e in teaching.train if e.completion][:FIRST] or teaching.train[:FIRST]
    row, end = first[0], teaching.end or list(renderer.end)

    def written(example: Example) -> list[int]:
        text = renderer.completion_ids(example.completion) if example.completion else end
        return example.completion_ids or text

    completion = written(row)
    try:
        prompts = [renderer.prompt_ids(example.row.prompt) for example in first]
    except ValueError as error:
        raise StageError(reasons.ROWS_INVALID, f"data.chatTemplate: {error}; choose another template or change the rows") from error
    later = "" if row.completion else "; the teacher will write its completion, of which only the end is shown"
    log.info(
        "row %s as the student is trained on it (%s%s):\n%s", row.row.id, row.row.where, later, shown(renderer, prompts[0], completion)
    )
    if spec.teacher.model is not None and teaching.config is not None:
        rows = [*teaching.train, *teaching.held]
        inputs.ids_fit((ids for e in rows for ids in (e.prompt_ids, e.completion_ids)), teaching.config, "spec.teacher.model")
    inputs.ids_fit((*prompts, *map(written, first)), student.model.config, student.field)
    taught = [(example.prompt_ids, written(example)) for example in first]
    learned = [(ids, written(example)) for ids, example in zip(prompts, first, strict=True)]
    try_models(context, teaching, student, sizes, taught, learned)

"""The student without its weights, on the meta device: what would fail after dear stages is tried here, where it costs a second."""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import torch
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, GenerationConfig, PreTrainedConfig, PreTrainedModel
from transformers import PreTrainedTokenizerBase as Tokenizer

from distillery.api import reasons
from distillery.api.job import DistillationJobSpec
from distillery_trainer.data.templates import Renderer, choose_template
from distillery_trainer.errors import StageError
from distillery_trainer.models.endings import end_ids
from distillery_trainer.models.files import fetch_model, read_config, read_generation, read_tokenizer
from distillery_trainer.runner.context import StageContext
from distillery_trainer.student.layers import chosen_layers, keep_layers
from distillery_trainer.student.make import Student, random_model, require_same_tokens, with_adapters
from distillery_trainer.teacher.weights import save_description

from . import inputs
from .teaching import Teaching

log = logging.getLogger(__name__)
#: Rows whose text is cut by both tokenizers.
_FIRST = 16
Made = TypeVar("Made")


def bare(config: PreTrainedConfig, field: str) -> PreTrainedModel:
    """A model of this configuration on the meta device."""

    def make() -> PreTrainedModel:
        with torch.device("meta"):
            model: PreTrainedModel = AutoModelForCausalLM.from_config(config)  # type: ignore[no-untyped-call]
        return model

    text = f"{field}: no model can be made of its config.json"
    return tried(make, reasons.MODEL_UNREADABLE, text, "correct it, or name another model")


def student_of(context: StageContext, teaching: Teaching) -> Student:
    """The job's student without weights; adapters and template are those of the one that will be trained."""
    spec = context.job.spec
    model, tokenizer, field = _made(context, teaching)
    if spec.student.lora:
        # peft's own placing of adapters; with their weights it would cost seconds
        with torch.device("meta"):
            adapters = with_adapters(model, spec.student.lora)
    else:
        adapters = None
    ends = end_ids(model.generation_config, tokenizer) | end_ids(teaching.generation, tokenizer)
    renderer = Renderer(tokenizer, choose_template(spec.data.chat_template, tokenizer, teaching.tokenizer), ends)
    return Student(model, tokenizer, renderer, field, adapters)


def rehearse(spec: DistillationJobSpec, teaching: Teaching, student: Student) -> None:
    """StageError for what traces, train or an export would raise at their end."""
    if teaching.files is not None and teaching.config is not None:
        _teacher_is_saved(teaching.config, teaching.generation, teaching.tokenizer)
    _student_is_saved(student, int((teaching.end or student.renderer.end)[-1]))
    inputs.exports_can_be_made(spec, student)


def _made(context: StageContext, teaching: Teaching) -> tuple[PreTrainedModel, Tokenizer, str]:
    spec = context.job.spec.student
    if spec.model is not None:
        files = fetch_model(spec.model.uri, "student", context.work, weights=False)
        tokenizer, field = read_tokenizer(files), "spec.student.model"
        _same_tokenizer(tokenizer, teaching)
        config = read_config(files)
        inputs.not_quantized(config, field, "name the model that was quantized")
        model = bare(config, field)
        model.generation_config = read_generation(files)
        return model, tokenizer, field
    if teaching.tokenizer is None:
        text = "the teacher's tokenizer is not known, which the student would take over: use student.model"
        raise StageError(reasons.BAD_INPUT, f"spec.student: {text}, or name it in teacher.endpoint.tokenizer and trace again")
    if spec.from_teacher is not None and teaching.config is not None:
        remedy = "use student.model or scratch, or a teacher whose weights are whole"
        inputs.not_quantized(teaching.config, "spec.student.fromTeacher", remedy)
        teacher = bare(teaching.config, "spec.teacher.model")
        if teaching.generation is not None:
            teacher.generation_config = teaching.generation
        with torch.device("meta"):
            kept = keep_layers(teacher, chosen_layers(spec.from_teacher, int(teaching.config.num_hidden_layers)))
        return kept, teaching.tokenizer, "spec.student.fromTeacher"
    if spec.scratch is not None:
        with torch.device("meta"):
            made = random_model(spec.scratch, teaching.vocabulary, teaching.tokenizer)
        return made, teaching.tokenizer, "spec.student.scratch"
    raise StageError(reasons.INVALID_SPEC, "spec.student: exactly one of model, fromTeacher or scratch is needed")


def _same_tokenizer(student: Tokenizer, teaching: Teaching) -> None:
    """Where the teacher's tokenizer is known, the student must have the same; an API's answers can be learned from without it."""
    if teaching.tokenizer is None:
        return
    try:
        require_same_tokens(student, teaching.tokenizer)
        inputs.same_ids(student, teaching.tokenizer, (example.row.prompt for example in teaching.train[:_FIRST]))
    except StageError as error:
        if teaching.endpoint is None:
            raise
        text = "; or remove teacher.endpoint.tokenizer and any response objective: the student then reads the answers with its own"
        raise StageError(error.reason, error.message + text) from error


def _teacher_is_saved(config: PreTrainedConfig, generation: GenerationConfig | None, tokenizer: Tokenizer | None) -> None:
    """The traces stage ends with writing these."""
    if tokenizer is None:
        return
    with tempfile.TemporaryDirectory() as folder:
        text = "spec.teacher.model: its configuration and tokenizer cannot be saved"
        save = lambda: save_description(Path(folder), config, generation, tokenizer)  # noqa: E731
        tried(save, reasons.UNSUPPORTED, text, "correct the file that this names")


def _student_is_saved(student: Student, end_of_turn: int) -> None:
    """What will be published can be written, and loads as the same tokenizer.

    transformers picks the class of some model types itself, whatever was saved: a Qwen2 model always gets Qwen2's pre-tokenizer.
    """
    field, kind = student.field, student.model.config.model_type
    before: Any = student.tokenizer
    before = before.backend_tokenizer.to_str()

    def save(folder: Path) -> Tokenizer:
        student.rehearse(folder, end_of_turn)
        AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
        GenerationConfig.from_pretrained(folder, local_files_only=True)
        again: Tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
        return again

    with tempfile.TemporaryDirectory() as name:
        text = f"{field}: a trained {kind} student could not be saved and loaded again"
        again: Any = tried(lambda: save(Path(name)), reasons.UNSUPPORTED, text, f"use llama, or another family than {kind}")
    if again.backend_tokenizer.to_str() != before:
        text = f"a published {kind} model would load with another tokenizer than the teacher's"
        raise StageError(reasons.UNSUPPORTED, f"{field}: {text}: use llama, or another family than {kind}")


def tried(make: Callable[[], Made], reason: str, text: str, remedy: str) -> Made:
    """What `make` makes; what transformers raises becomes a StageError that says what was tried."""
    try:
        return make()
    except (StageError, MemoryError):
        raise
    except Exception as error:
        # transformers' classes raise what they like, down to AssertionError
        told = " ".join(str(error).split())[:300]
        raise StageError(reason, f"{text} ({type(error).__name__}: {told}): {remedy}") from error

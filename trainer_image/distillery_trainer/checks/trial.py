"""The first rows through the models themselves, where these are small enough to be loaded before the job: what no configuration tells."""

from __future__ import annotations

import logging

import torch
from transformers import PreTrainedModel
from transformers import PreTrainedTokenizerBase as Tokenizer

from distillery.api import reasons
from distillery_trainer.models.files import fetch_model, read_model
from distillery_trainer.models.generate import generate
from distillery_trainer.models.scoring import Scorer
from distillery_trainer.runner.context import StageContext
from distillery_trainer.student.layers import chosen_layers, keep_layers
from distillery_trainer.student.make import Student, random_model

from .rehearsal import tried
from .sizes import Sizes, memory_available
from .teaching import Teaching

log = logging.getLogger(__name__)
#: Token ids of prompt and completion, by row.
Pairs = list[tuple[list[int], list[int]]]
#: Parameters up to which a model is loaded here: more would hold a CPU pod for minutes.
_SMALL = 200_000_000
#: Tokens of a prompt that a model goes on from here.
_PROMPT = 16


def try_models(context: StageContext, teaching: Teaching, student: Student, sizes: Sizes, taught: Pairs, learned: Pairs) -> None:
    """`taught` are rows as the teacher reads them, `learned` as the student does. StageError where a model gives no numbers or answers."""
    spec, teacher = context.job.spec, None
    if spec.teacher.model is not None and teaching.tokenizer is not None and _small("teacher", sizes.teacher):
        teacher = read_model(fetch_model(spec.teacher.model.uri, "teacher", context.work), torch.float32)
        _try(teacher, teaching.tokenizer, taught, "spec.teacher.model")
    if not _small("student", sizes.student):
        return
    made = _untrained(context, teaching, student, teacher)
    if made is not None:
        _try(made, student.tokenizer, learned, student.field)


def _untrained(context: StageContext, teaching: Teaching, student: Student, teacher: PreTrainedModel | None) -> PreTrainedModel | None:
    """The student as train begins with it, but for adapters, which change nothing before the first step."""
    spec = context.job.spec.student
    if spec.model is not None:
        return read_model(fetch_model(spec.model.uri, "student", context.work), torch.float32)
    if spec.scratch is not None:
        return random_model(spec.scratch, teaching.vocabulary, student.tokenizer)
    if spec.from_teacher is None or teacher is None:
        return None
    kept = chosen_layers(spec.from_teacher, int(teacher.config.num_hidden_layers))
    text = f"{student.field}: layers {kept} of a {teacher.config.model_type} model make no model"
    return tried(lambda: keep_layers(teacher, kept), reasons.UNSUPPORTED, text, "keep others, or use student.model")


def _small(role: str, parameters: int) -> bool:
    small = parameters <= _SMALL and parameters * 6 <= memory_available()
    if not small:
        log.info("%s of %.0fM parameters: too large to be tried here", role, parameters / 1e6)
    return small


def _try(model: PreTrainedModel, tokenizer: Tokenizer, pairs: Pairs, field: str) -> None:
    _, tally = Scorer(model, "hiddenState", field).score(pairs)
    log.info("%s: %d rows went through, %.3g nats/token of entropy", field, len(pairs), tally.entropy / tally.tokens)
    # a short row and a long one, padded to one batch: the cache of some families is not what our decoding needs
    short = sorted((prompt[:_PROMPT] for prompt, _ in pairs if prompt), key=len)
    tried(
        lambda: generate(model, tokenizer, short[:: max(1, len(short) - 1)], 2, 2, stop_ids=()),
        reasons.UNSUPPORTED,
        f"{field}: {model.config.model_type} cannot write answers here",
        "use a model of another family",
    )

"""What preflight can know before anything is made: each check raises a StageError that names the field and the remedy."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from transformers import PreTrainedConfig, PreTrainedTokenizerBase

from distillery.api import reasons
from distillery.api.job import DistillationJobSpec
from distillery.api.patterns import knows_ascii_words_alone
from distillery.api.rows import Prompt
from distillery_trainer.data.templates import Renderer
from distillery_trainer.errors import StageError
from distillery_trainer.measure.metrics import answer_of
from distillery_trainer.models.positions import position_limit
from distillery_trainer.student.make import Student


def answers_can_be_found(spec: DistillationJobSpec, truths: Iterable[str | None]) -> None:
    r"""An expression with `\b`, which sees ASCII letters alone, would find no answer that begins or ends with another, and say nothing."""
    answer = spec.data.evaluation.answer if spec.data.evaluation else None
    if answer is None or not knows_ascii_words_alone(answer.extract):
        return
    other = next((truth for truth in truths if truth and not truth.isascii()), None)
    if other is not None:
        text = rf"\b in it sees ASCII letters alone, and {other[:60]!r} is a true answer; write (?:^|[^\pL]) or (?:[^\pL]|$) in its place"
        raise StageError(reasons.BAD_INPUT, f"spec.data.evaluation.answer.extract: {answer.extract!r}: {text}")


def gates_can_be_measured(spec: DistillationJobSpec, answer: dict[str, Any] | None) -> None:
    """A gate on labelAccuracy needs the held-out rows' true answers (with teacher.traces: in those traces)."""
    gated = {gate.metric for gate in spec.evaluation.gates} | {gate.metric for export in spec.exports for gate in export.gates}
    if "labelAccuracy" in gated and answer_of(answer) is None:
        text = "a gate on labelAccuracy needs true answers, and these traces were made without data.evaluation.answer"
        raise StageError(reasons.BAD_INPUT, f"spec.teacher.traces: {text}: remove the gate, or trace again with it")


def same_ids(student: PreTrainedTokenizerBase, teacher: PreTrainedTokenizerBase, prompts: Iterable[Prompt]) -> None:
    """Equal vocabularies may still cut text differently (other merges, other pre-tokenizer): the first rows are compared."""
    for prompt in prompts:
        text = prompt if isinstance(prompt, str) else "\n".join(message["content"] for message in prompt)
        ours, theirs = (words(text, add_special_tokens=False)["input_ids"] for words in (student, teacher))
        if ours != theirs:
            at = next((i for i, (a, b) in enumerate(zip(ours, theirs, strict=False)) if a != b), min(len(ours), len(theirs)))
            cut = [repr(words.decode(ids[at : at + 3])) for words, ids in ((student, ours), (teacher, theirs))]
            raise StageError(
                reasons.TOKENIZER_MISMATCH,
                f"spec.student.model: its tokenizer cuts {text[:60]!r} differently from the teacher's ({cut[0]} against {cut[1]}):"
                " use a student of the teacher's family, student.fromTeacher or student.scratch",
            )


def same_end(student: Renderer, teacher_end: Sequence[int], choice: str) -> None:
    """The traced completions end as the teacher's template does; a student template that ends otherwise would contradict them."""
    if student.template is not None and student.end[-1] != teacher_end[-1]:
        ours, theirs = (student.tokenizer.convert_ids_to_tokens(int(end)) for end in (student.end[-1], teacher_end[-1]))
        raise StageError(
            reasons.TOKENIZER_MISMATCH,
            f"data.chatTemplate: {choice!r} ends an answer with {ours!r}, the teacher ends it with {theirs!r}: set it to teacher or none",
        )


def length_fits(config: PreTrainedConfig, longest: int, field: str) -> None:
    """The student's positions reach to the longest row that may be trained on."""
    limit = position_limit(config)
    if longest > limit:
        text = f"the student sees {limit} tokens, and rows may have {longest}: lower training.maxSequenceLength to {limit}"
        raise StageError(reasons.DOES_NOT_FIT, f"{field}: {text}, or choose a student that sees more")


def ids_fit(rows: Iterable[Sequence[int]], config: PreTrainedConfig, field: str) -> None:
    """The embedding has a row for every token of these rows; a tokenizer of another model may know more."""
    largest, vocabulary = max((max(ids, default=0) for ids in rows), default=0), int(config.vocab_size)
    if largest >= vocabulary:
        text = f"its tokenizer gives token id {largest}, and its embedding has {vocabulary} rows"
        raise StageError(reasons.TOKENIZER_MISMATCH, f"{field}: {text}: tokenizer and weights are of different models; save both again")


def not_quantized(config: PreTrainedConfig, field: str, remedy: str) -> None:
    """Quantized weights can be asked, not trained."""
    given = getattr(config, "quantization_config", None)
    if given:
        method = given.get("quant_method") if isinstance(given, dict) else getattr(given, "quant_method", None)
        raise StageError(reasons.UNSUPPORTED, f"{field}: its weights are quantized ({method}), and a student has to be trained: {remedy}")


def exports_can_be_made(spec: DistillationJobSpec, student: Student) -> None:
    """Each export's format can hold this student: its architecture, tensors, widths, tokenizer and the ids that end its answers."""
    if spec.exports:
        from distillery_trainer.export.suitable import require

        for export in spec.exports:
            require(export, student.model, student.tokenizer, student.renderer.stop_ids)

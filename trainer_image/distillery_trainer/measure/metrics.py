"""What is measured: of texts (exact match, label accuracy) and of distributions (KL and top-1 agreement to the teacher, perplexity)."""

from __future__ import annotations

import math
import string
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from distillery.api import reasons
from distillery.api.data import Answer
from distillery.api.patterns import compiled, encodable
from distillery.api.problems import problems
from distillery_trainer.errors import StageError

if TYPE_CHECKING:  # publish reads numbers and needs no torch, whose import takes seconds
    import torch

_PUNCTUATION = str.maketrans("", "", string.punctuation)


def answer_of(wire: Mapping[str, Any] | None) -> Answer | None:
    """How traces say that the true answer is found; None where their rows have none. StageError where that cannot be used any more."""
    try:
        return Answer.model_validate(wire) if wire else None
    except ValidationError as error:
        text = f"{'; '.join(problems(error, 'answer'))}: trace again with data.evaluation.answer corrected"
        raise StageError(reasons.BAD_INPUT, f"spec.teacher.traces: these traces were made with an {text}") from error


def exact_match(answers: Sequence[str], references: Sequence[str]) -> float:
    """Part of the answers that are the reference completion, white space at both ends aside."""
    return _part(answer.strip() == reference.strip() for answer, reference in zip(answers, references, strict=True))


def label_accuracy(answers: Sequence[str], truths: Sequence[str | None], answer: Answer) -> float:
    """Part of the answers whose label, found and normalized as the job says, is the row's true answer."""
    found = (normalized(label_in(text, answer.extract), answer.normalize) for text in answers)
    return _part(label == normalized(truth or "", answer.normalize) for label, truth in zip(found, truths, strict=True))


def label_in(text: str, extract: str) -> str:
    """The first group of the last match that is not empty (an expression like `(.*)` also matches the nothing behind a text)."""
    found = [match.group(1) or "" for match in compiled(extract).finditer(encodable(text))]
    return next((label for label in reversed(found) if label), "")


def normalized(text: str, steps: Sequence[str]) -> str:
    """`lower`, `strip` and `punctuation` (removed, ASCII) in that order, as far as they are asked for."""
    text = text.lower() if "lower" in steps else text
    text = text.translate(_PUNCTUATION) if "punctuation" in steps else text
    return text.strip() if "strip" in steps else text


@dataclass
class TokenSums:
    """Sums over completion tokens; losses in nats."""

    tokens: int = 0
    kl: float = 0.0
    same_top: int = 0
    student_nll: float = 0.0
    teacher_nll: float = 0.0

    def add(self, student: torch.Tensor, teacher: torch.Tensor | None, targets: torch.Tensor) -> None:
        """Count tokens with logits [tokens, vocab] of both sides, float32; a column that only one side has is padding.

        KL(teacher || student) at temperature 1. Without the teacher's, only the student's likelihood is counted.
        """
        self.tokens += len(targets)
        if teacher is None:
            self.student_nll -= float(student.log_softmax(-1).gather(1, targets[:, None]).sum())
            return
        shared = min(student.shape[1], teacher.shape[1])
        log_s, log_t = student[:, :shared].log_softmax(-1), teacher[:, :shared].float().log_softmax(-1)
        self.kl += float((log_t.exp() * (log_t - log_s)).sum())
        self.same_top += int((log_s.argmax(-1) == log_t.argmax(-1)).sum())
        self.student_nll -= float(log_s.gather(1, targets[:, None]).sum())
        self.teacher_nll -= float(log_t.gather(1, targets[:, None]).sum())

    def mean_kl(self) -> float:
        """Nats per token."""
        return self.kl / max(1, self.tokens)

    def agreement(self) -> float:
        """Part of the tokens where both sides find the same token likeliest."""
        return self.same_top / max(1, self.tokens)

    def perplexity(self, nll: float) -> float:
        """exp of the mean negative log-likelihood."""
        mean = nll / max(1, self.tokens)
        return math.exp(mean) if mean < 700 else math.inf


def decimal(value: float) -> str:
    """A short decimal string for the API: four decimals, no exponent."""
    return f"{value:.4f}".rstrip("0").rstrip(".") if math.isfinite(value) else str(value)


def _part(hits: Iterable[bool]) -> float:
    counted = list(hits)
    return sum(counted) / max(1, len(counted))

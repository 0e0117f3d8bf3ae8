"""The held-out rows that every model and every artifact is measured on, and how answers to them are compared."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

from distillery.api.data import Answer
from distillery_trainer.data.traces import HELD_OUT_LINES, TraceLine, Traces, open_traces
from distillery_trainer.runner.context import StageContext

from .metrics import answer_of, exact_match, label_accuracy


@dataclass(frozen=True)
class HeldOut:
    """The rows that count, and the teacher's part in them."""

    traces: Traces
    lines: list[TraceLine]

    @cached_property
    def answer(self) -> Answer | None:
        """How the true answer is found; None where the rows have none."""
        return answer_of(self.traces.record.answer)

    @property
    def white_box(self) -> bool:
        """Whether the traces hold the teacher's whole distribution over the held-out completions; an API gives none."""
        signal = self.traces.record.signal
        return signal is not None and signal.whole

    @property
    def teacher_answers(self) -> list[str]:
        """Those of the teacher, which a traces stage writes to every held-out row."""
        return [line.teacher_answer or "" for line in self.lines]

    def scores(self, answers: Sequence[str]) -> dict[str, float]:
        """By metric; the last is the one that retention is of: label accuracy where the rows have true answers, else exact match."""
        scores = {"exactMatch": exact_match(answers, [line.completion for line in self.lines])}
        if self.answer is not None:
            scores["labelAccuracy"] = label_accuracy(answers, [line.truth for line in self.lines], self.answer)
        return scores

    def named(self, answers: Sequence[str]) -> Iterator[dict[str, str]]:
        """The lines of answers.jsonl."""
        return ({"id": line.id, "answer": answer} for line, answer in zip(self.lines, answers, strict=True))


def held_out(context: StageContext, *names: str) -> HeldOut:
    """The job's held-out rows; `names` are further files of the traces that are wanted."""
    traces = open_traces(context, HELD_OUT_LINES, *names)
    return HeldOut(traces, traces.held_out(context.job.spec.evaluation.max_rows))

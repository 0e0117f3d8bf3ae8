"""The curate stage: which of the traced rows are trained on, and why the others are not.

Files: kept.jsonl (ids in order), dropped.jsonl (id, reason, and for duplicates and contaminated rows the row that they repeat).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Iterable, Iterator, Sequence
from pathlib import Path

from distillery.api import reasons
from distillery.api.result import StageResult
from distillery_trainer.data.examples import write_lines
from distillery_trainer.data.likeness import normalized, words
from distillery_trainer.data.templates import Renderer, choose_template
from distillery_trainer.data.traces import HELD_OUT_LINES, TRAIN_LINES, TraceLine, open_traces
from distillery_trainer.errors import StageError
from distillery_trainer.models.endings import end_ids
from distillery_trainer.models.files import fetch_model, read_generation, read_tokenizer, traced_ends, traced_tokenizer
from distillery_trainer.runner.context import Outcome, StageContext

#: Length of the word sequences that two texts must not share (Brown et al., 2020, arXiv 2005.14165, appendix C).
GRAM = 13
_REMEDIES = {
    "short": "lower data.curation.minCompletionTokens",
    "tooLong": "raise training.maxSequenceLength",
    "contaminated": "they repeat held-out rows: give other rows, or set data.curation.decontaminate to false",
    "duplicate": "set data.curation.deduplicate to false if repetition is meant",
}


def run(context: StageContext) -> Outcome:
    """Filter in the order short, too long, contaminated, duplicate, so that a duplicate always names a row that is kept."""
    spec = context.job.spec
    traces = open_traces(context, TRAIN_LINES, HELD_OUT_LINES, "teacher/*")
    train, held = traces.train(), traces.held_out()
    renderer = _renderer(context, traces.teacher)
    lengths = _lengths(train, renderer)
    end = len(traces.record.end_of_turn or renderer.end)
    contamination = Contamination(held, train) if spec.data.curation.decontaminate else None
    seen: dict[Hashable, str] = {}
    kept, dropped = [], []
    for line, (prompt, completion) in zip(train, lengths, strict=True):
        reason, other = _reason(line, completion - end, prompt + completion, context, contamination, seen)
        if reason is None:
            kept.append({"id": line.id})
        else:
            dropped.append({"id": line.id, "reason": reason, **({"of": other} if other else {})})
    counts = Counter(row["reason"] for row in dropped)
    told = ", ".join(f"{count} {reason} ({_REMEDIES[reason]})" for reason, count in sorted(counts.items()))
    if not kept:
        raise StageError(reasons.ROWS_INVALID, f"data.train: no row is left to train on: {told}")
    folder = context.new_folder("output")
    write_lines(folder / "kept.jsonl", kept)
    write_lines(folder / "dropped.jsonl", dropped)
    spelled, spelling = renderer.plain.in_prompts(line.prompt for line in (*train, *held))
    message = f"{len(kept)} of {len(train)} rows are kept" + (f"; dropped: {told}" if told else "") + (f"; {spelling}" if spelling else "")
    metrics = {"keptRows": float(len(kept)), **{f"{reason}Rows": float(count) for reason, count in sorted(counts.items())}}
    metrics |= {"promptsWithSpecialTokens": float(spelled)} if spelled else {}
    return Outcome(folder, StageResult(message=message), {}, metrics, {"kept": len(kept), "dropped": len(dropped), **counts})


def _reason(
    line: TraceLine, tokens: int, length: int, context: StageContext, contamination: Contamination | None, seen: dict[Hashable, str]
) -> tuple[str | None, str | None]:
    """Why a row is dropped, and the id of the row that it repeats; (None, None) if it is kept."""
    spec = context.job.spec
    if tokens < spec.data.curation.min_completion_tokens:
        return "short", None
    if length > spec.training.max_sequence_length:
        if spec.data.overflow == "fail":
            text = f"row {line.id!r}: {length} tokens in the student's template are more than training.maxSequenceLength"
            raise StageError(reasons.ROWS_INVALID, f"{text} ({spec.training.max_sequence_length}): raise it, or set data.overflow to drop")
        return "tooLong", None
    if contamination and (other := contamination.of(line)):
        return "contaminated", other
    key = (normalized(line.prompt), normalized(line.completion))
    if spec.data.curation.deduplicate and key in seen:
        return "duplicate", seen[key]
    seen[key] = line.id
    return None, None


def _renderer(context: StageContext, teacher_folder: Path) -> Renderer:
    """How the student reads rows."""
    teacher, model = traced_tokenizer(teacher_folder), context.job.spec.student.model
    files = fetch_model(model.uri, "student", context.work, weights=False) if model else None
    student = read_tokenizer(files) if files else teacher
    if student is None:
        raise StageError(reasons.BAD_INPUT, "spec.student: the traces hold no tokenizer that it could take over; use student.model")
    ends = end_ids(read_generation(files), student) if files else traced_ends(teacher_folder, student)
    return Renderer(student, choose_template(context.job.spec.data.chat_template, student, teacher), ends)


def _lengths(train: Iterable[TraceLine], renderer: Renderer) -> list[tuple[int, int]]:
    """Tokens of each row's prompt and completion, end of turn included, as the student reads it."""
    try:
        return [(len(renderer.prompt_ids(line.prompt)), len(line.ids(renderer))) for line in train]
    except ValueError as error:
        raise StageError(reasons.ROWS_INVALID, f"data.chatTemplate: {error}; choose another template or change the rows") from error


class Contamination:
    """What the held-out rows say: their whole prompts, and their 13-grams.

    Word sequences that stand in more than a tenth of the held-out or of the training rows are the task's wording, not its content, and do
    not count: else a common instruction would drop every row.
    """

    def __init__(self, held: Sequence[TraceLine], train: Sequence[TraceLine]) -> None:
        self._prompts = {normalized(line.prompt): line.id for line in held}
        self._grams = {gram: line.id for line in held for gram in grams(line)}
        for lines, least in ((held, 1), (train, 3)):
            counts = Counter(gram for line in lines for gram in set(grams(line)) if gram in self._grams)
            for gram, count in counts.items():
                if count > max(least, len(lines) // 10):
                    del self._grams[gram]

    def of(self, line: TraceLine) -> str | None:
        """The held-out row that a training row repeats."""
        same = self._prompts.get(normalized(line.prompt))
        return same or next((self._grams[gram] for gram in grams(line) if gram in self._grams), None)


def grams(line: TraceLine) -> Iterator[int]:
    """Hashes of a row's sequences of 13 words, prompt (without system message) and completion in one."""
    prompt = line.prompt
    told = [prompt] if isinstance(prompt, str) else [m["content"] for m in prompt if m["role"] != "system"]
    found = list(words([*told, line.completion]))
    for start in range(len(found) - GRAM + 1):
        yield hash(tuple(found[start : start + GRAM]))

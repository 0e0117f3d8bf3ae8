"""Rows on their way through the traces stage: rendered for the teacher, held out, dropped with a reason, written for later stages."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from distillery.api import reasons
from distillery.api.data import held_out_of
from distillery_trainer.errors import StageError

from .end_words import without_end_words
from .rows import Row
from .templates import Renderer
from .traces import Place, TraceLine

_REMEDIES = {
    "cut": "raise maxCompletionTokens of the teacher's sampling",
    "refused": "the teacher declined to answer them",
    "unanswered": "the teacher gave nothing to learn from; dropped.jsonl has its word",
    "tooLong": "raise training.maxSequenceLength, or shorten them",
}
_SHOWN = 5


@dataclass
class Example:
    """A row with its token ids. `completion_ids` end with the end-of-turn token, except where the answer was cut; they are empty where the
    completion is still to be written, and where it is text that each student reads with its own tokenizer.
    """

    row: Row
    prompt_ids: list[int]
    completion_ids: list[int]
    completion: str
    teacher_answer: str | None = None
    signal: Place | None = None
    reasoning: str | None = None

    @property
    def tokens(self) -> int:
        """Length of prompt and completion."""
        return len(self.prompt_ids) + len(self.completion_ids)

    def wire(self) -> dict[str, Any]:
        """The line of train.jsonl or heldout.jsonl."""
        prompt = self.row.prompt if isinstance(self.row.prompt, str) else [dict(message) for message in self.row.prompt]
        return TraceLine(
            id=self.row.id,
            prompt=prompt,
            completion=self.completion,
            completion_ids=self.completion_ids or None,
            truth=self.row.truth,
            teacher_answer=self.teacher_answer,
            reasoning=self.reasoning,
            signal=self.signal,
        ).wire()


@dataclass
class Dropped:
    """Rows that are left out, each with its reason."""

    lines: list[dict[str, str]] = field(default_factory=list)

    def add(self, row: Row, split: str, reason: str, detail: str = "") -> None:
        """`reason` is a word: cut, tooLong, refused, unanswered; `detail` is the teacher's own."""
        more = {"detail": detail} if detail else {}
        self.lines.append({"id": row.id, "split": split, "reason": reason, "where": row.where, **more})

    def told(self) -> str:
        """Counts by reason with the remedies, or the empty string."""
        counts = Counter(line["reason"] for line in self.lines)
        return ", ".join(f"{count} {reason} ({_REMEDIES[reason]})" for reason, count in sorted(counts.items()))


def render(rows: Iterable[Row], renderer: Renderer) -> list[Example]:
    """Token ids of each row. StageError RowsInvalid where the template refuses some, or a prompt has no token."""
    examples, bad = [], []
    for row in rows:
        try:
            prompt_ids = renderer.prompt_ids(row.prompt)
        except ValueError as error:
            bad.append(f"{row.where}: {error}")
            continue
        if not prompt_ids:
            bad.append(f"{row.where}: the prompt has no token; write one")
        completion_ids = [] if row.completion is None else renderer.completion_ids(row.completion)
        # as its ids have it, since it is what answers are compared with
        completion = without_end_words(row.completion or "", renderer.end_words)
        examples.append(Example(row, prompt_ids, completion_ids, completion))
    if bad:
        raise StageError(reasons.ROWS_INVALID, f"{len(bad)} rows cannot be rendered: {'; '.join(bad[:_SHOWN])}")
    return examples


def fitting(examples: Iterable[Example], split: str, limit: int, overflow: str, dropped: Dropped) -> list[Example]:
    """Those of at most `limit` tokens, leaving room for one where the completion is still to be written; the others as `overflow` says."""
    kept = []
    for example in examples:
        needed = example.tokens + (0 if example.completion_ids else 1)
        if needed <= limit:
            kept.append(example)
        elif overflow == "fail":
            text = f"{example.row.where}: {needed} tokens are more than training.maxSequenceLength or the teacher's positions ({limit})"
            raise StageError(reasons.ROWS_INVALID, f"{text}: raise it, shorten the row, or set data.overflow to drop")
        else:
            dropped.add(example.row, split, "tooLong")
    return kept


def hold_out(examples: list[Example], dropped: Dropped) -> tuple[list[Example], list[Example]]:
    """(training, held-out): a tenth by the hash of the id, so that which rows are held out does not depend on their order."""
    if len(examples) < 2:
        text = f"data.train has {len(examples)} usable rows; at least 2 are needed, since one is held out for evaluation"
        lost = f" (left out: {dropped.told()})" if dropped.lines else ""
        raise StageError(reasons.ROWS_INVALID, f"{text}{lost}: add rows, or name held-out rows in data.evaluation")
    count = held_out_of(len(examples))
    order = sorted(examples, key=lambda example: hashlib.sha256(example.row.id.encode()).digest())
    held = {example.row.id for example in order[:count]}
    return [e for e in examples if e.row.id not in held], [e for e in examples if e.row.id in held]


def write_lines(path: Path, lines: Iterable[Mapping[str, Any]]) -> None:
    """JSONL, one object on each line."""
    with path.open("w") as file:
        for line in lines:
            file.write(json.dumps(line, ensure_ascii=False) + "\n")


def read_lines(path: Path) -> list[dict[str, Any]]:
    """What write_lines wrote."""
    with path.open() as file:
        return [json.loads(line) for line in file]


def kept_ids(path: Path) -> frozenset[str]:
    """The rows that the curate stage named in its kept.jsonl."""
    return frozenset(str(row["id"]) for row in read_lines(path))

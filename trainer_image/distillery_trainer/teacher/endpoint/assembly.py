"""The answers of all shards become what later stages read: train.jsonl, heldout.jsonl, dropped.jsonl, teacher/, and the lineage."""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from distillery.api.result import StageResult
from distillery.api.usage import TeacherInfo
from distillery_trainer.data.examples import Example, fitting, write_lines
from distillery_trainer.data.selection import require_rows
from distillery_trainer.data.traces import Place
from distillery_trainer.runner.context import Outcome, StageContext

from .answers import CUT, UNANSWERED, Answered, Choice
from .asks import Ask
from .lineage import teacher_lineage, usage_of
from .selection import Asked
from .signals import write_shards


@dataclass(frozen=True)
class Assembly:
    """Everything that the shards found out."""

    context: StageContext
    selection: Asked
    asks: Sequence[Ask]
    answers: Mapping[int, Answered]
    #: Why those without an answer have none.
    lost: Mapping[int, str]
    info: TeacherInfo
    shards: int
    #: Brings the file of a piece to this machine.
    fetch: Callable[[str], Path]

    def outcome(self) -> Outcome:
        """The files of the stage, and what it says of them."""
        train, held = self._train(), self._held()
        require_rows(train, held, self.selection.dropped)
        folder = self.context.new_folder("output")
        signal = self._signal(train, folder)
        write_lines(folder / "train.jsonl", (example.wire() for example in train))
        write_lines(folder / "heldout.jsonl", (example.wire() for example in held))
        write_lines(folder / "dropped.jsonl", self.selection.dropped.lines)
        self._save_tokenizer(folder / "teacher")
        usage, dropped = usage_of(self.answers.values()), len(self.selection.dropped.lines)
        metrics = {
            "trainRows": float(len(train)),
            "heldOutRows": float(len(held)),
            "droppedRows": float(dropped),
            "requests": float(usage["requests"]),
            "cacheHits": float(usage["cacheHits"]),
            **({"signalRows": float(signal["rows"])} if signal else {}),
        }
        counts = {"train": len(train), "heldOut": len(held), "dropped": dropped}
        told = f"{len(train)} training and {len(held)} held-out rows; {usage['requests']} answers bought for ${usage['cost']}"
        told += f", {usage['cacheHits']} were there" if usage["cacheHits"] else ""
        told += _told(signal, len(train))
        told += f"; dropped: {self.selection.dropped.told()}" if dropped else ""
        return Outcome(folder, StageResult(message=told[:1024]), self._lineage(usage, signal), metrics, counts)

    def _train(self) -> list[Example]:
        """Rows that brought a completion, and those that the teacher completed: one for each sample."""
        asked, made = {ask.row.id: ask for ask in self.asks if not ask.held_out}, []
        for example in self.selection.train:
            ask = asked.get(example.row.id)
            if ask is None:
                made.append(example)
                continue
            for sample, choice in enumerate(self._choices(ask)):
                named = replace(example, row=replace(example.row, id=ask.row_id(sample)))
                if choice.problem:
                    self.selection.dropped.add(named.row, "train", choice.problem, choice.detail)
                else:
                    named.completion, named.reasoning = choice.text, choice.reasoning
                    named.completion_ids, named.signal = self._ids(choice.text), _place(choice)
                    made.append(named)
        if self.selection.renderer is None:
            return made
        spec = self.context.job.spec
        return fitting(made, "train", spec.training.max_sequence_length, spec.data.overflow, self.selection.dropped)

    def _held(self) -> list[Example]:
        """Held-out rows with the teacher's answer, which is the reference too where the row brought none."""
        asked, made = {ask.row.id: ask for ask in self.asks if ask.held_out}, []
        for example in self.selection.held:
            choice = self._choices(asked[example.row.id])[0]
            if choice.problem and (choice.problem != CUT or example.row.completion is None):
                self.selection.dropped.add(example.row, "heldout", choice.problem, choice.detail)
                continue
            example.teacher_answer = choice.text
            if example.row.completion is None:
                example.completion, example.completion_ids = choice.text, self._ids(choice.text)
            made.append(example)
        return made

    def _choices(self, ask: Ask) -> tuple[Choice, ...]:
        answer = self.answers.get(ask.at)
        return answer.choices if answer else (Choice("", None, UNANSWERED, self.lost.get(ask.at, "")),) * ask.samples

    def _ids(self, text: str) -> list[int]:
        renderer = self.selection.renderer
        return renderer.completion_ids(text) if renderer else []

    def _save_tokenizer(self, folder: Path) -> None:
        """The teacher's tokenizer where the job names one, with the model's configuration if that lies beside it."""
        renderer, files = self.selection.renderer, self.selection.tokenizer
        if renderer is None or files is None:
            return
        renderer.tokenizer.save_pretrained(folder)
        if (files.folder / "config.json").is_file():
            shutil.copyfile(files.folder / "config.json", folder / "config.json")

    def _signal(self, train: Sequence[Example], folder: Path) -> dict[str, Any] | None:
        """Write the distributions; how many rows have some, and why the others have none. None where the job keeps none."""
        endpoint = self.context.job.spec.teacher.endpoint
        if endpoint is None or endpoint.tokenizer is None or not endpoint.sampling.top_logprobs:
            return None
        rows = write_shards(train, self.fetch, folder)
        without = Counter(choice.without for answer in self.answers.values() for choice in answer.choices if choice.without)
        given = sum(example.row.completion is not None for example in train)
        return {
            "kind": "topK",
            "k": endpoint.sampling.top_logprobs,
            "rows": rows,
            "without": {**without, **({"givenCompletion": given} if given else {})},
        }

    def _lineage(self, usage: Mapping[str, Any], signal: Mapping[str, Any] | None) -> dict[str, Any]:
        spec, renderer = self.context.job.spec, self.selection.renderer
        evaluation = spec.data.evaluation
        shards = [
            {"shard": shard, **usage_of(answer for answer in self.answers.values() if answer.at % self.shards == shard)}
            for shard in range(self.shards)
        ]
        return {
            "teacher": teacher_lineage(self.info, self.answers.values()),
            "usage": {**usage, "shards": shards},
            "dropped": dict(Counter(line["reason"] for line in self.selection.dropped.lines)),
            "signal": signal,
            "answer": evaluation.answer.wire() if evaluation and evaluation.answer else None,
            "endOfTurn": list(renderer.end) if renderer else None,
            "format": spec.data.train.format if spec.data.train else None,
            "chatTemplate": renderer.template if renderer else None,
        }


def _told(signal: Mapping[str, Any] | None, rows: int) -> str:
    """How many rows the teacher's distribution is known of."""
    if signal is None:
        return ""
    why = ", ".join(f"{count} {reason}" for reason, count in sorted(signal["without"].items()))
    rest = f", the others are learned from as text ({why})" if why else ""
    return f"; log-probabilities of {signal['rows']} of {rows} rows{rest}"


def _place(choice: Choice) -> Place | None:
    """Where the distributions of a choice are kept, until write_shards puts them elsewhere."""
    kept = choice.signal
    return None if kept is None else Place(shard=kept["piece"], offset=kept["offset"], length=kept["length"])

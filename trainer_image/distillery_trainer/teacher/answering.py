"""The teacher writes: completions of training rows that have none, and its greedy answers to the held-out rows."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from distillery.api.digest import digest
from distillery_trainer.data.examples import Example
from distillery_trainer.models.generate import generate
from distillery_trainer.runner.pieces import Pieces
from distillery_trainer.stores import Store

from .weights import Teacher

log = logging.getLogger(__name__)
#: Batches in one part that is kept: a stopped pod loses less than one part.
_BATCHES = 8


@dataclass(frozen=True)
class Decoding:
    """How answers are written; temperature 0 is greedy."""

    max_new_tokens: int
    temperature: float
    seed: int
    batch_size: int


def answer(
    teacher: Teacher, examples: Sequence[Example], how: Decoding, store: Store, folder: str, work: Path, tick: Callable[[int], None]
) -> list[list[int]]:
    """Token ids of one answer to each example's prompt, in order; one that does not end with a stop token was cut.

    `tick` hears the number of rows done since the last call, and may raise to stop. Parts that were finished before are read from `folder`.
    """
    order = sorted(range(len(examples)), key=lambda at: (len(examples[at].prompt_ids), at))
    size = how.batch_size * _BATCHES
    parts = [order[start : start + size] for start in range(0, len(order), size)]
    plan = [[e.row.id for e in examples], how.max_new_tokens, how.temperature, how.seed, how.batch_size, str(teacher.model.dtype)]
    pieces = Pieces(store, folder, plan, wanted=len(parts) > 1)
    work.mkdir(parents=True, exist_ok=True)
    answers: list[list[int]] = [[] for _ in examples]
    for number, part in enumerate(parts):
        name = f"answers-{number:05d}.json"
        if pieces.restore([name], work):
            written = json.loads((work / name).read_text())
            tick(len(part))
        else:
            written = _write(teacher, [examples[at].prompt_ids for at in part], how, number, tick)
            (work / name).unlink(missing_ok=True)
            (work / name).write_text(json.dumps(written))
            pieces.keep([name], work)
        for at, ids in zip(part, written, strict=True):
            answers[at] = ids
    return answers


def _write(teacher: Teacher, prompts: list[list[int]], how: Decoding, number: int, tick: Callable[[int], None]) -> list[list[int]]:
    done = 0

    def on_batch(total: int) -> None:
        nonlocal done
        tick(total - done)
        done = total

    # Each part draws from seeds of its own: equal prompts in two parts get two samples.
    return generate(
        teacher.model,
        teacher.tokenizer,
        prompts,
        how.max_new_tokens,
        how.batch_size,
        how.temperature,
        int(digest([how.seed, number])[:8], 16),
        teacher.renderer.stop_ids,
        on_batch,
    )

"""Writes the teacher's signal to shards: signal-<split>-<number>.safetensors, tensor "signal" [tokens, width], in the teacher's dtype."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path

import torch
from safetensors.torch import save_file

from distillery_trainer.data.examples import Example
from distillery_trainer.data.traces import Place
from distillery_trainer.models.scoring import Scorer, Tally, padded_batches
from distillery_trainer.runner.pieces import Pieces
from distillery_trainer.stores import Store

from .shards import SHARD_BYTES, in_shards

#: Tokens, padding included, of one forward pass.
_BATCH_TOKENS = {"cpu": 4096, "cuda": 32768}


def write_signal(
    scorer: Scorer, examples: Sequence[Example], split: str, target: Path, store: Store, folder: str, tick: Callable[[int], None]
) -> Tally:
    """Score all examples and set each one's `signal`; shards go to `target`, and to `folder` as well, where a stopped run finds them.

    `tick` hears the number of rows done since the last call, and may raise to stop.
    """
    model = scorer.model
    width = scorer.head.weight.shape[0 if scorer.kind == "logits" else 1]
    shards = list(_shards(examples, width * model.dtype.itemsize))
    plan = [split, scorer.kind, width, str(model.dtype), [[e.row.id, len(e.prompt_ids), len(e.completion_ids)] for e in examples]]
    pieces = Pieces(store, folder, plan, wanted=len(shards) > 1)
    total = Tally()
    for number, shard in enumerate(shards):
        name = f"signal-{split}-{number:05d}.safetensors"
        sums = f"{name}.json"
        offset = 0
        for example in shard:
            example.signal = Place(shard=name, offset=offset, length=len(example.completion_ids))
            offset += len(example.completion_ids)
        if pieces.restore([name, sums], target):
            tick(len(shard))
        else:
            tally = Tally()
            batches = padded_batches(shard, _BATCH_TOKENS[model.device.type])
            rows = [part for batch in batches for part in _score(scorer, batch, tally, tick)]
            save_file({"signal": torch.cat(rows).contiguous()}, target / name, metadata={"kind": scorer.kind})
            (target / sums).write_text(json.dumps(asdict(tally)))
            pieces.keep([name, sums], target)
        total.add(Tally(**json.loads((target / sums).read_text())))
        (target / sums).unlink()
    return total


def _score(scorer: Scorer, batch: Sequence[Example], tally: Tally, tick: Callable[[int], None]) -> list[torch.Tensor]:
    parts, sums = scorer.score([(example.prompt_ids, example.completion_ids) for example in batch])
    tally.add(sums)
    tick(len(batch))
    return parts


def _shards(examples: Sequence[Example], bytes_per_token: int) -> Iterator[list[Example]]:
    """Rows of like length together, so that batches hold little padding."""
    in_order = sorted(examples, key=lambda e: (e.tokens, e.row.id))
    return in_shards(in_order, lambda e: len(e.completion_ids) * bytes_per_token, SHARD_BYTES)

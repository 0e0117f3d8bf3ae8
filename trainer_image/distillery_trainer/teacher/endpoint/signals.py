"""Distributions on their way through the store: beside each piece of answers while they come, in shards once all are there.

Both are safetensors with `ids` int32 [tokens, k], `logprobs` float32 [tokens, k] and `tail` float32 [tokens].
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import safe_open
from safetensors.numpy import save_file

from distillery_trainer.data.examples import Example
from distillery_trainer.data.traces import Place
from distillery_trainer.signal.shards import SHARD_BYTES, in_shards

from .distribution import Distribution

#: Pieces that are open at once: rows come from as many as there are shards, in turn.
_OPEN = 128


def save(path: Path, distributions: Sequence[Distribution]) -> None:
    """All of them one after another in one file."""
    save_file(
        {
            "ids": np.concatenate([one.ids for one in distributions]),
            "logprobs": np.concatenate([one.logprobs for one in distributions]),
            "tail": np.concatenate([one.tail for one in distributions]),
        },
        path,
        metadata={"kind": "topK"},
    )


def write_shards(examples: Sequence[Example], fetch: Callable[[str], Path], folder: Path) -> int:
    """Put what the examples' `signal` names in the files of pieces into shards in `folder`, and name those; how many rows have one."""

    @lru_cache(_OPEN)
    def opened(piece: str) -> Any:
        return safe_open(fetch(piece), framework="np")

    rows = 0
    for number, shard in enumerate(_shards([example for example in examples if example.signal], _width(examples, opened))):
        name, offset, parts = f"signal-train-{number:05d}.safetensors", 0, []
        for example in shard:
            place = _place(example)
            part = slice(place.offset, place.offset + place.length)
            tensors = (opened(place.shard).get_slice(tensor)[part] for tensor in ("ids", "logprobs", "tail"))
            parts.append(Distribution(*tensors))
            example.signal = Place(shard=name, offset=offset, length=place.length)
            offset += place.length
        save(folder / name, parts)
        rows += len(shard)
    return rows


def _width(examples: Sequence[Example], opened: Callable[[str], Any]) -> int:
    """Alternatives per token."""
    first = next((example.signal for example in examples if example.signal), None)
    return int(opened(first.shard).get_slice("ids").get_shape()[1]) if first else 0


def _shards(examples: Sequence[Example], k: int) -> Iterator[list[Example]]:
    return in_shards(examples, lambda example: _place(example).length * (8 * k + 4), SHARD_BYTES)


def _place(example: Example) -> Place:
    if example.signal is None:
        raise ValueError(f"row {example.row.id!r} has no distributions")
    return example.signal

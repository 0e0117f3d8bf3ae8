"""Rows put into shards of a bounded size, for signals on their way to the store. Needs no torch: pods that ask an API load none."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from distillery_trainer.data.examples import Example

SHARD_BYTES = 128 << 20


def in_shards(examples: Iterable[Example], size: Callable[[Example], int], limit: int) -> Iterator[list[Example]]:
    """Runs of the examples, in their order, of at most `limit` bytes by `size` (one row at least)."""
    shard: list[Example] = []
    total = 0
    for example in examples:
        needed = size(example)
        if shard and total + needed > limit:
            yield shard
            shard, total = [], 0
        shard.append(example)
        total += needed
    if shard:
        yield shard

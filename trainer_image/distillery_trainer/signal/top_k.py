"""A distribution of which only the likeliest tokens are known: an API's log-probabilities. Its loss is objectives/top_k.py."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch


class TopK(NamedTuple):
    """ids [tokens, k] (int64), logprobs [tokens, k], tail [tokens] (a probability). Where fewer than k tokens are known, the rest of a
    line repeats its first id with log-probability -inf.
    """

    ids: torch.Tensor
    logprobs: torch.Tensor
    tail: torch.Tensor

    def part(self, start: int, stop: int) -> TopK:
        """Some of the tokens."""
        return TopK(self.ids[start:stop], self.logprobs[start:stop], self.tail[start:stop])


def certain(targets: torch.Tensor, k: int) -> TopK:
    """Nothing is known but the tokens `targets` [tokens] themselves."""
    ids = targets[:, None].expand(-1, k).contiguous()
    logprobs = torch.full(ids.shape, float("-inf"))
    logprobs[:, 0] = 0.0
    return TopK(ids, logprobs, torch.zeros(len(targets)))


#: Teacher logits [stop - start, vocab] of the valid tokens start..stop of the batch, before any temperature.
TeacherLogits = Callable[[int, int], torch.Tensor]


#: The same, or what is known of the teacher's distribution at temperature 1.
TeacherSignal = Callable[[int, int], torch.Tensor | TopK]

"""The loss on a distribution of which only the k likeliest tokens are known: an API's log-probabilities.

The vocabulary V is cut into k + 1 buckets: each known token i in K with the teacher's p_i, and the rest, the tail, with
p_t = 1 - sum_K p_i. With the student's q = softmax(z) and its tail q_t = sum of q_j over j not in K,

    loss  = sum_K p_i log(p_i / q_i) + p_t log(p_t / q_t)            forward KL over the buckets, at temperature 1
    d/dz_j = q_j - p_j                    for j in K
    d/dz_j = q_j (1 - p_t / q_t)          for j not in K             (computed as q_j - p_t softmax over the tail, which is stable)

By the log-sum inequality it is at most the KL over the whole vocabulary, and 0 where the student agrees on every bucket. Renormalising
the k tokens instead would teach that the tail is impossible, and is biased (arXiv 2503.16870).

A token of which nothing is known but that the teacher wrote it is one bucket of mass 1: the loss is its cross-entropy.
"""

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

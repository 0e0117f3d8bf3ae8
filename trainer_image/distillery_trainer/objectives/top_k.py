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

import torch

from distillery_trainer.signal.top_k import TopK


def bucket_loss(logits: torch.Tensor, teacher: TopK) -> tuple[torch.Tensor, torch.Tensor]:
    """Sum of the loss over the tokens, and its gradient [tokens, vocab] by `logits` [tokens, vocab]."""
    p, tail = teacher.logprobs.to(logits.dtype).exp(), teacher.tail.to(logits.dtype)
    log_z = torch.logsumexp(logits, dim=-1)
    known = torch.zeros_like(logits, dtype=torch.bool).scatter_(1, teacher.ids, True)
    rest = logits.masked_fill(known, float("-inf"))
    log_rest = torch.logsumexp(rest, dim=-1)
    log_q = logits.gather(1, teacher.ids) - log_z[:, None]
    # 0 log 0 is 0
    inside = torch.where(p > 0, p * (teacher.logprobs.to(logits.dtype) - log_q), 0.0).sum()
    outside = torch.where(tail > 0, tail * (tail.log() - (log_rest - log_z)), 0.0).sum()
    mass = p.sum(-1) + tail
    gradient = (logits - log_z[:, None]).exp_().mul_(mass[:, None])
    gradient.sub_((rest - log_rest[:, None]).exp_().mul_(tail[:, None]))
    gradient.scatter_add_(1, teacher.ids, -p)
    return inside + outside, gradient

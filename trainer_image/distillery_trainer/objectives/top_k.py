"""BUCKET"""

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

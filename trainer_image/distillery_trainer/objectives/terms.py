"""What one token costs, and its gradient by the student's logits. Pure.

With student logits z, teacher logits y, reference token k and temperature T (Hinton et al., 2015, arXiv 1503.02531, sec. 2):

    response  = T^2 KL(softmax(y/T) || softmax(z/T))      d/dz = T (softmax(z/T) - softmax(y/T))
    hardLabel = -log softmax(z)_k                         d/dz = softmax(z) - onehot(k)

T^2 keeps the size of the gradient of `response` about the same at every T.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch.nn import functional

from distillery_trainer.signal.top_k import TopK

from .top_k import bucket_loss


@dataclass(frozen=True)
class Weights:
    """Factors of the two losses, and the temperature of `response`; a factor of 0 leaves the loss out."""

    response: float = 0.5
    hard_label: float = 0.5
    temperature: float = 2.0


def token_losses(
    logits: torch.Tensor, targets: torch.Tensor, teacher: torch.Tensor | TopK | None, weights: Weights
) -> tuple[tuple[torch.Tensor, torch.Tensor], torch.Tensor]:
    """Sums of both losses over the tokens of one chunk, and the gradient [tokens, vocab] of their weighted sum by `logits`.

    logits [tokens, vocab] float32, targets [tokens], teacher [tokens, its vocab], the likeliest of its tokens (see top_k.py) or None.
    """
    response, hard_label = logits.new_zeros(()), logits.new_zeros(())
    if weights.hard_label:
        log_student = functional.log_softmax(logits, dim=-1)
        hard_label = -log_student.gather(1, targets[:, None]).sum()
        gradient = log_student.exp_()
        gradient.scatter_add_(1, targets[:, None], gradient.new_full((len(targets), 1), -1.0))
        gradient.mul_(weights.hard_label)
    else:
        gradient = torch.zeros_like(logits)
    if isinstance(teacher, TopK) and weights.response:
        response, slope = bucket_loss(logits, teacher)
        gradient.add_(slope, alpha=weights.response)
    elif isinstance(teacher, torch.Tensor) and weights.response:
        shared, t = min(logits.shape[1], teacher.shape[1]), weights.temperature
        log_teacher = functional.log_softmax(teacher[:, :shared].float() / t, dim=-1)
        log_student = functional.log_softmax(logits[:, :shared] / t, dim=-1)
        p = log_teacher.exp()
        response = log_teacher.sub_(log_student).mul_(p).sum() * t**2
        gradient[:, :shared].add_(log_student.exp_().sub_(p), alpha=weights.response * t)
    return (response, hard_label), gradient

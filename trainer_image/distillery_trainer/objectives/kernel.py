"""The chunked kernel: losses over completion tokens, with each chunk's gradients computed in the forward pass.

No [tokens, vocab] tensor is ever whole: one chunk of logits lives at a time, and only its gradients by hidden state and head are kept.
That is why the loss must be the last node of the graph: it is differentiated once, by the backward pass of the step.

    loss = (w_r response + w_h hardLabel) / N             N = valid tokens of the whole global batch

N is that of the global batch, so that a micro batch with few tokens weighs as little as it should: accumulated gradients equal those of
one large batch. The formulae of the two are in terms.py.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch.autograd.function import once_differentiable

from distillery_trainer.models.head import Head
from distillery_trainer.signal.top_k import TeacherSignal

from .terms import Weights, token_losses

_CHUNK_BYTES = {"cpu": 64 << 20, "cuda": 256 << 20}


class Loss(NamedTuple):
    """`total` is differentiable; the sums over the micro batch's tokens are not (nats, `response` with its T^2)."""

    total: torch.Tensor
    response_sum: torch.Tensor
    hard_label_sum: torch.Tensor


def distillation_loss(
    hidden: torch.Tensor,
    head: Head,
    targets: torch.Tensor,
    teacher: TeacherSignal | None,
    weights: Weights,
    valid_tokens: int,
    chunk: int | None = None,
    dtype: torch.dtype = torch.float32,
) -> Loss:
    """The weighted loss of one micro batch, divided by `valid_tokens`, the number of valid tokens of the global batch.

    hidden [tokens, width]: the student's states after the final norm, at the positions that predict `targets` [tokens]. Where the
    teacher's vocabulary is smaller or larger than the student's, `response` compares the columns that both have (the rest is padding). Of a
    teacher behind an API the likeliest tokens alone are known; then `response` is the loss of top_k.py, at temperature 1.
    `dtype` is the arithmetic of the matrix products. No tokens at all: 0, with zero gradients.
    """
    rows = chunk or chunk_rows(hidden.shape[0], head.weight.shape[0], hidden.device)
    call = _Call(head.scale, head.softcap, targets, teacher, weights, max(1, valid_tokens), rows, dtype)
    return Loss(*_ChunkedLoss.apply(hidden, head.weight, head.bias, call))  # type: ignore[no-untyped-call]


def chunk_rows(tokens: int, vocab: int, device: torch.device) -> int:
    """Tokens per chunk: float32 logits of about 64 MiB on a CPU, 256 MiB on a GPU, never under 128 tokens."""
    return max(1, min(tokens, max(128, _CHUNK_BYTES.get(device.type, _CHUNK_BYTES["cpu"]) // (4 * vocab))))


def _accumulate(total: torch.Tensor, left: torch.Tensor, right: torch.Tensor) -> None:
    """total += left @ right, without a second [vocab, width] tensor where the types allow it."""
    if total.dtype == left.dtype:
        total.addmm_(left, right)
    else:
        total += left @ right


class _Call(NamedTuple):
    scale: float
    softcap: float | None
    targets: torch.Tensor
    teacher: TeacherSignal | None
    weights: Weights
    valid_tokens: int
    chunk: int
    dtype: torch.dtype


class _ChunkedLoss(torch.autograd.Function):
    """Forward computes loss and gradients; backward hands the gradients over, once, and cannot be differentiated again."""

    @staticmethod
    def forward(
        ctx: Any, hidden: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None, call: _Call
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        need_hidden, need_weight, need_bias, _ = ctx.needs_input_grad
        grad_hidden = torch.empty_like(hidden) if need_hidden else None
        grad_weight = torch.zeros_like(weight) if need_weight else None
        grad_bias = torch.zeros_like(bias) if bias is not None and need_bias else None
        response, hard_label = (torch.zeros((), device=hidden.device) for _ in range(2))
        with torch.autocast(hidden.device.type, enabled=False):
            head = Head(weight.to(call.dtype), bias.to(call.dtype) if bias is not None else None, call.scale, call.softcap)
            for start in range(0, hidden.shape[0], call.chunk):
                part = slice(start, min(start + call.chunk, hidden.shape[0]))
                states = hidden[part].to(call.dtype)
                sums, gradient = _chunk(head, states, part, call)
                response += sums[0]
                hard_label += sums[1]
                if grad_hidden is not None:
                    grad_hidden[part] = gradient @ head.weight
                if grad_weight is not None:
                    _accumulate(grad_weight, gradient.T, states)
                if grad_bias is not None:
                    grad_bias += gradient.sum(0)
        ctx.gradients = (grad_hidden, grad_weight, grad_bias)
        total = (call.weights.response * response + call.weights.hard_label * hard_label) / call.valid_tokens
        ctx.mark_non_differentiable(response, hard_label)
        return total, response, hard_label

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, upstream: torch.Tensor, *_: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        if ctx.gradients is None:
            raise RuntimeError("the distillation loss keeps its gradients for one backward pass only: compute the loss again")
        gradients, ctx.gradients = ctx.gradients, None
        return (*(gradient.mul_(upstream) if gradient is not None else None for gradient in gradients), None)


def _chunk(head: Head, states: torch.Tensor, part: slice, call: _Call) -> tuple[tuple[torch.Tensor, torch.Tensor], torch.Tensor]:
    """Both sums for one chunk, and the gradient [tokens, vocab] by `states @ weight.T`, already divided by the valid tokens."""
    logits = head.logits(states).float()
    # of the soft-cap: d (c tanh(x / c)) / dx = 1 - (c tanh(x / c) / c)^2
    slope = 1 - (logits / call.softcap).square_() if call.softcap else None
    teacher = call.teacher(part.start, part.stop) if call.teacher and call.weights.response else None
    sums, gradient = token_losses(logits, call.targets[part], teacher, call.weights)
    gradient.mul_(call.scale / call.valid_tokens)
    return sums, (gradient if slope is None else gradient.mul_(slope)).to(call.dtype)

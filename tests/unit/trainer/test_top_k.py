"""The loss on k + 1 buckets equals its formula, and its gradient is autograd's."""

from __future__ import annotations

import pytest
import torch

from distillery_trainer.models.head import Head
from distillery_trainer.objectives.kernel import distillation_loss
from distillery_trainer.objectives.terms import Weights
from distillery_trainer.objectives.top_k import bucket_loss
from distillery_trainer.signal.top_k import TopK, certain

TOKENS, VOCAB, K = 19, 41, 5


def logits(seed: int) -> torch.Tensor:
    """float64 [tokens, vocab]."""
    return torch.randn(TOKENS, VOCAB, dtype=torch.float64, generator=torch.Generator().manual_seed(seed)) * 2


def top(teacher: torch.Tensor, k: int = K) -> TopK:
    """The k likeliest tokens of these logits."""
    log_p = teacher.log_softmax(-1)
    values, ids = log_p.topk(k)
    return TopK(ids, values, 1 - values.exp().sum(-1))


def formula(z: torch.Tensor, teacher: TopK) -> torch.Tensor:
    """The loss written with an explicit tail, token by token."""
    q, total = z.softmax(-1), z.new_zeros(())
    for at in range(len(z)):
        known = teacher.ids[at].unique()
        p = {int(i): 0.0 for i in known}
        for i, value in zip(teacher.ids[at].tolist(), teacher.logprobs[at].exp().tolist(), strict=True):
            p[i] += value
        for i, mass in p.items():
            if mass > 0:
                total = total + mass * (torch.tensor(mass).log().double() - q[at, i].log())
        outside = torch.ones(VOCAB, dtype=torch.bool)
        outside[known] = False
        if (tail := float(teacher.tail[at])) > 0:
            total = total + tail * (torch.tensor(tail).log().double() - q[at, outside].sum().log())
    return total


@pytest.mark.parametrize("case", ["all known", "fewer known", "certain", "no tail"])
def test_loss_and_gradient_are_those_of_the_formula(case: str) -> None:
    z, teacher = logits(0).requires_grad_(), top(logits(1))
    if case == "fewer known":
        ids, values = teacher.ids.clone(), teacher.logprobs.clone()
        ids[:, 3:], values[:, 3:] = ids[:, :1], float("-inf")
        teacher = TopK(ids, values, 1 - values.exp().sum(-1))
    elif case == "certain":
        teacher = certain(torch.arange(TOKENS), K)
    elif case == "no tail":
        teacher = TopK(teacher.ids, teacher.logprobs.log_softmax(-1), torch.zeros(TOKENS))
    expected = formula(z, teacher)
    (wanted,) = torch.autograd.grad(expected, z)
    loss, gradient = bucket_loss(z.detach(), teacher)
    torch.testing.assert_close(loss, expected.detach(), rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(gradient, wanted, rtol=1e-9, atol=1e-9)


def test_it_is_a_lower_bound_of_the_whole_kl_and_meets_it_when_all_is_known() -> None:
    z, teacher = logits(0), logits(1)
    log_p, log_q = teacher.log_softmax(-1), z.log_softmax(-1)
    whole = (log_p.exp() * (log_p - log_q)).sum()
    bounds = [bucket_loss(z, top(teacher, k))[0] for k in (1, 5, 20, VOCAB - 1)]
    assert all(one <= other + 1e-9 for one, other in zip(bounds, [*bounds[1:], whole], strict=True))
    torch.testing.assert_close(bounds[-1], whole)


def test_the_teacher_itself_has_no_loss_and_no_gradient() -> None:
    z = logits(1)
    loss, gradient = bucket_loss(z, top(z))
    assert abs(float(loss)) < 1e-9
    assert float(gradient.abs().max()) < 1e-9


def test_a_certain_token_costs_its_cross_entropy() -> None:
    z, targets = logits(0), torch.arange(TOKENS)
    loss, gradient = bucket_loss(z, certain(targets, K))
    torch.testing.assert_close(loss, torch.nn.functional.cross_entropy(z, targets, reduction="sum"))
    torch.testing.assert_close(gradient, z.softmax(-1) - torch.nn.functional.one_hot(targets, VOCAB))


def test_far_tails_stay_finite() -> None:
    """A student that is sure of a known token has a tail of probability 1e-40 and less."""
    z = torch.zeros(1, VOCAB)
    z[0, 3] = 100.0
    teacher = TopK(torch.tensor([[3, 4]]), torch.tensor([[0.5, 0.3]]).log(), torch.tensor([0.2]))
    loss, gradient = bucket_loss(z, teacher)
    assert torch.isfinite(loss)
    assert torch.isfinite(gradient).all()
    assert float(gradient.sum().abs()) < 1e-6


@pytest.mark.parametrize("chunk", [1, 7, None])
def test_the_chunked_kernel_takes_it(chunk: int | None) -> None:
    generator = torch.Generator().manual_seed(3)
    hidden = torch.randn(TOKENS, 16, generator=generator).requires_grad_()
    weight = torch.randn(VOCAB, 16, generator=generator).mul_(0.3).requires_grad_()
    targets, teacher, weights = torch.randint(VOCAB, (TOKENS,), generator=generator), top(logits(1).float()), Weights(0.7, 0.4, 1.0)
    z = hidden @ weight.T
    expected = (0.7 * formula(z.double(), teacher) + 0.4 * torch.nn.functional.cross_entropy(z, targets, reduction="sum")) / TOKENS
    wanted = torch.autograd.grad(expected, (hidden, weight))
    loss = distillation_loss(hidden, Head(weight), targets, teacher.part, weights, TOKENS, chunk)
    loss.total.backward()
    torch.testing.assert_close(loss.total.double(), expected.double(), rtol=1e-5, atol=1e-6)
    torch.testing.assert_close((hidden.grad, weight.grad), wanted, rtol=1e-4, atol=1e-6)

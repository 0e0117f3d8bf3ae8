"""The chunked kernel equals the formulas, written densely and differentiated by autograd."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional

from distillery_trainer.models.head import Head
from distillery_trainer.objectives.kernel import chunk_rows, distillation_loss
from distillery_trainer.objectives.terms import Weights
from distillery_trainer.signal.top_k import TeacherLogits

TOKENS, WIDTH, VOCAB = 37, 16, 53
BOTH = Weights(response=0.7, hard_label=0.4, temperature=2.0)


def tensors(vocab: int = VOCAB, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Hidden states [tokens, width] and a head [vocab, width] that want gradients, and targets [tokens]."""
    generator = torch.Generator().manual_seed(seed)
    hidden = torch.randn(TOKENS, WIDTH, generator=generator).requires_grad_()
    weight = torch.randn(vocab, WIDTH, generator=generator).mul_(0.3).requires_grad_()
    return hidden, weight, torch.randint(vocab, (TOKENS,), generator=generator)


def teacher_logits(vocab: int = VOCAB) -> torch.Tensor:
    """Logits [tokens, vocab] of a made-up teacher."""
    return torch.randn(TOKENS, vocab, generator=torch.Generator().manual_seed(9)) * 2


def whole(logits: torch.Tensor) -> TeacherLogits:
    """A signal that is in memory."""
    return lambda start, stop: logits[start:stop]


def dense(hidden: torch.Tensor, head: Head, targets: torch.Tensor, teacher: torch.Tensor, weights: Weights, n: int) -> torch.Tensor:
    """The same loss, as the formulas say it."""
    z = head.scale * functional.linear(hidden, head.weight, head.bias)
    if head.softcap:
        z = head.softcap * torch.tanh(z / head.softcap)
    t, v = weights.temperature, min(z.shape[1], teacher.shape[1])
    p, log_s = (teacher[:, :v] / t).softmax(-1), (z[:, :v] / t).log_softmax(-1)
    response = t**2 * (p * (p.log() - log_s)).sum()
    return (weights.response * response + weights.hard_label * functional.cross_entropy(z, targets, reduction="sum")) / n


@pytest.mark.parametrize("chunk", [1, 5, 8, 36, 37, 500, None])
@pytest.mark.parametrize("weights", [BOTH, Weights(1.0, 0.0, 4.0), Weights(0.0, 1.0, 2.0), Weights(0.5, 0.5, 1.0), Weights(1.0, 0.0, 0.5)])
def test_chunked_equals_dense_in_loss_and_gradients(chunk: int | None, weights: Weights) -> None:
    hidden, weight, targets = tensors()
    teacher = teacher_logits()
    expected = dense(hidden, Head(weight), targets, teacher, weights, TOKENS)
    wanted = torch.autograd.grad(expected, (hidden, weight))
    loss = distillation_loss(hidden, Head(weight), targets, whole(teacher), weights, TOKENS, chunk)
    loss.total.backward()
    torch.testing.assert_close(loss.total, expected, rtol=1e-6, atol=1e-6)
    torch.testing.assert_close((hidden.grad, weight.grad), wanted, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(("scale", "softcap"), [(0.25, None), (1.0, 3.0), (2.0, 5.0)])
def test_bias_scale_and_soft_cap_are_part_of_the_student(scale: float, softcap: float | None) -> None:
    hidden, weight, targets = tensors()
    bias = torch.linspace(-1, 1, VOCAB).requires_grad_()
    teacher, head = teacher_logits(), Head(weight, bias, scale, softcap)
    wanted = torch.autograd.grad(dense(hidden, head, targets, teacher, BOTH, TOKENS), (hidden, weight, bias))
    distillation_loss(hidden, head, targets, whole(teacher), BOTH, TOKENS, 7).total.backward()
    torch.testing.assert_close((hidden.grad, weight.grad, bias.grad), wanted, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("teacher_vocab", [VOCAB - 7, VOCAB + 11])
def test_padding_columns_of_either_vocabulary_are_left_out(teacher_vocab: int) -> None:
    hidden, weight, targets = tensors()
    teacher = teacher_logits(teacher_vocab)
    expected = dense(hidden, Head(weight), targets, teacher, BOTH, TOKENS)
    wanted = torch.autograd.grad(expected, (hidden, weight))
    loss = distillation_loss(hidden, Head(weight), targets, whole(teacher), BOTH, TOKENS, 10)
    loss.total.backward()
    torch.testing.assert_close(loss.total, expected, rtol=1e-6, atol=1e-6)
    torch.testing.assert_close((hidden.grad, weight.grad), wanted, rtol=1e-5, atol=1e-6)


def test_ragged_micro_batches_add_up_to_the_global_batch() -> None:
    hidden, weight, targets = tensors()
    teacher = teacher_logits()
    expected = torch.autograd.grad(dense(hidden, Head(weight), targets, teacher, BOTH, TOKENS), (hidden, weight))
    for start, stop in ((0, 3), (3, 30), (30, TOKENS)):
        signal = whole(teacher[start:stop])
        distillation_loss(hidden[start:stop], Head(weight), targets[start:stop], signal, BOTH, TOKENS, 4).total.backward()
    torch.testing.assert_close((hidden.grad, weight.grad), expected, rtol=1e-5, atol=1e-6)


def test_no_valid_token_gives_a_finite_zero() -> None:
    _, weight, _ = tensors()
    hidden = torch.zeros(0, WIDTH, requires_grad=True)
    loss = distillation_loss(hidden, Head(weight), torch.zeros(0, dtype=torch.long), whole(torch.zeros(0, VOCAB)), BOTH, 0)
    loss.total.backward()
    assert loss.total.item() == 0.0
    assert weight.grad is not None
    assert not weight.grad.any()
    assert hidden.grad is not None
    assert hidden.grad.shape == (0, WIDTH)


def test_a_rebuilt_hidden_state_gives_the_live_logits() -> None:
    hidden, weight, targets = tensors()
    states, matrix = torch.randn(TOKENS, 24), torch.randn(VOCAB, 24)
    head = Head(matrix, scale=0.5, softcap=20.0)
    live = 20.0 * torch.tanh(0.5 * (states @ matrix.T) / 20.0)
    cached = distillation_loss(hidden, Head(weight), targets, lambda a, b: head.logits(states[a:b]), BOTH, TOKENS, 6)
    direct = distillation_loss(hidden, Head(weight), targets, whole(live), BOTH, TOKENS, 6)
    torch.testing.assert_close(cached.total, direct.total, rtol=1e-6, atol=1e-6)


def test_a_bfloat16_cache_is_within_a_hundredth() -> None:
    hidden, weight, targets = tensors()
    states, matrix = torch.randn(TOKENS, 24), torch.randn(VOCAB, 24) * 0.3
    exact = distillation_loss(hidden, Head(weight), targets, whole(states @ matrix.T), BOTH, TOKENS)
    head = Head(matrix.bfloat16())
    cached = distillation_loss(hidden, Head(weight), targets, lambda a, b: head.logits(states[a:b].bfloat16()), BOTH, TOKENS)
    assert abs(exact.total.item() - cached.total.item()) / exact.total.item() < 1e-2


def gradient_norm(temperature: float, factor: float) -> float:
    """Norm of the gradient of `response` by the hidden states, for logits that are small against the temperature."""
    hidden, weight, targets = tensors()
    weights = Weights(factor, 0.0, temperature)
    distillation_loss(hidden, Head(weight.detach()), targets, whole(teacher_logits()), weights, TOKENS).total.backward()
    assert hidden.grad is not None
    return float(hidden.grad.norm())


def test_the_gradient_keeps_its_size_as_temperature_grows() -> None:
    assert gradient_norm(100.0, 1.0) == pytest.approx(gradient_norm(50.0, 1.0), rel=0.03)
    # and T^2 is what does it: without, doubling T would quarter it
    assert gradient_norm(100.0, 1 / 100.0**2) == pytest.approx(gradient_norm(50.0, 1 / 50.0**2) / 4, rel=0.03)


def test_a_perfect_student_has_no_response_loss_and_no_gradient() -> None:
    hidden, weight, targets = tensors()
    same = (hidden @ weight.T).detach()
    loss = distillation_loss(hidden, Head(weight), targets, whole(same), Weights(1.0, 0.0, 2.0), TOKENS)
    loss.total.backward()
    assert loss.total.item() == pytest.approx(0.0, abs=1e-6)
    assert hidden.grad is not None
    assert float(hidden.grad.abs().max()) < 1e-6


def test_the_parts_are_sums_over_the_tokens() -> None:
    hidden, weight, targets = tensors()
    loss = distillation_loss(hidden, Head(weight), targets, whole(teacher_logits()), BOTH, TOKENS)
    recomposed = (BOTH.response * loss.response_sum + BOTH.hard_label * loss.hard_label_sum) / TOKENS
    torch.testing.assert_close(loss.total.detach(), recomposed)
    torch.testing.assert_close(loss.hard_label_sum, functional.cross_entropy(hidden @ weight.T, targets, reduction="sum").detach())


def test_a_frozen_head_gets_no_gradient() -> None:
    hidden, weight, targets = tensors()
    distillation_loss(hidden, Head(weight.detach()), targets, None, Weights(0.0, 1.0), TOKENS).total.backward()
    assert hidden.grad is not None
    assert weight.grad is None


@pytest.mark.parametrize(("scaled", "message"), [(False, "does not require grad"), (True, "differentiate twice")])
def test_double_backward_is_refused(scaled: bool, message: str) -> None:
    hidden, weight, targets = tensors()
    total = distillation_loss(hidden, Head(weight), targets, None, Weights(0.0, 1.0), TOKENS).total
    total = total * torch.ones((), requires_grad=True) if scaled else total
    (gradient,) = torch.autograd.grad(total, hidden, create_graph=True)
    with pytest.raises(RuntimeError, match=message):
        gradient.sum().backward()


def test_a_second_backward_is_refused() -> None:
    hidden, weight, targets = tensors()
    total = distillation_loss(hidden, Head(weight), targets, None, Weights(0.0, 1.0), TOKENS).total
    total.backward(retain_graph=True)
    with pytest.raises(RuntimeError, match="one backward pass only"):
        total.backward()


def test_bfloat16_products_keep_float32_gradients() -> None:
    hidden, weight, targets = tensors()
    teacher = teacher_logits()
    wanted = torch.autograd.grad(dense(hidden, Head(weight), targets, teacher, BOTH, TOKENS), weight)[0]
    distillation_loss(hidden, Head(weight), targets, whole(teacher), BOTH, TOKENS, 9, torch.bfloat16).total.backward()
    assert weight.grad is not None
    assert weight.grad.dtype == torch.float32
    assert float((weight.grad - wanted).norm() / wanted.norm()) < 1e-2


def test_chunks_are_small_for_large_vocabularies_and_whole_for_small_ones() -> None:
    cpu = torch.device("cpu")
    assert chunk_rows(4096, 151_936, cpu) == 128
    assert chunk_rows(2000, 260, cpu) == 2000
    assert chunk_rows(0, 260, cpu) == 1

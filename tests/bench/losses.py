"""Three ways to compute the same loss and gradients: time and peak memory. `python tests/bench/losses.py [tokens width vocab]`.

Each runs in a process of its own, since peak memory (ru_maxrss) never falls. Reported, never asserted.
"""

from __future__ import annotations

import resource
import subprocess
import sys
import time

import torch
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from distillery_trainer.models.device import set_threads
from distillery_trainer.models.head import Head
from distillery_trainer.objectives.kernel import chunk_rows, distillation_loss
from distillery_trainer.objectives.terms import Weights

WEIGHTS = Weights(0.5, 0.5, 2.0)
REPEATS = 4


def dense(hidden: torch.Tensor, weight: torch.Tensor, targets: torch.Tensor, states: torch.Tensor, matrix: torch.Tensor) -> torch.Tensor:
    """Every logit at once."""
    z, t = hidden @ weight.T, WEIGHTS.temperature
    p = (states @ matrix.T / t).softmax(-1)
    response = t**2 * functional.kl_div((z / t).log_softmax(-1), p, reduction="sum")
    return (WEIGHTS.response * response + WEIGHTS.hard_label * functional.cross_entropy(z, targets, reduction="sum")) / len(targets)


def recomputed(
    hidden: torch.Tensor, weight: torch.Tensor, targets: torch.Tensor, states: torch.Tensor, matrix: torch.Tensor
) -> torch.Tensor:
    """The same by chunks, each computed again in the backward pass."""
    size, total = chunk_rows(len(targets), weight.shape[0], hidden.device), hidden.new_zeros(())
    for start in range(0, len(targets), size):
        part = slice(start, start + size)
        loss = checkpoint(dense, hidden[part], weight, targets[part], states[part], matrix, use_reentrant=False)
        total = total + loss * len(targets[part]) / len(targets)
    return total


def chunked(hidden: torch.Tensor, weight: torch.Tensor, targets: torch.Tensor, states: torch.Tensor, matrix: torch.Tensor) -> torch.Tensor:
    """The trainer's kernel."""
    head = Head(matrix)
    teacher = lambda a, b: head.logits(states[a:b])  # noqa: E731
    return distillation_loss(hidden, Head(weight), targets, teacher, WEIGHTS, len(targets)).total


WAYS = {"chunked, gradients in forward": chunked, "chunked, recomputed in backward": recomputed, "dense": dense}


def measure(way: str, tokens: int, width: int, vocab: int) -> None:
    """Print one row: best seconds of forward and backward, peak GiB above what the inputs take, loss."""
    threads = set_threads()
    torch.manual_seed(0)
    weight, matrix = (torch.randn(vocab, width).mul_(0.05) for _ in range(2))
    hidden, states = torch.randn(tokens, width).requires_grad_(), torch.randn(tokens, width)
    weight.requires_grad_()
    targets = torch.randint(vocab, (tokens,))
    before, best, loss = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, float("inf"), torch.zeros(())
    for _ in range(REPEATS):
        weight.grad = hidden.grad = None
        start = time.perf_counter()
        loss = WAYS[way](hidden, weight, targets, states, matrix)
        loss.backward()  # type: ignore[no-untyped-call]
        best = min(best, time.perf_counter() - start)
    peak = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 2**20
    print(f"{way:<33}{best:>8.2f} s{peak:>8.2f} GiB   loss {loss.item():.6f}   {threads} threads")


def main() -> None:
    """Measure every way at the shape of the command line."""
    shape = sys.argv[1:4] or ["1024", "576", "49152"]
    if len(sys.argv) > 4:
        measure(sys.argv[4], *(int(n) for n in shape))
        return
    print("forward and backward of", " x ".join(shape), "(tokens x width x vocabulary)")
    for way in WAYS:
        subprocess.run([sys.executable, __file__, *shape, way], check=True)


if __name__ == "__main__":
    main()

"""AdamW over what is trained, and its learning rate by step."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch

from distillery.api.base import number
from distillery.api.training import Training
from distillery_trainer.student.make import Student


def trained_parameters(student: Student) -> dict[str, torch.nn.Parameter]:
    """By name, tied ones once: all of the model's, or the adapters'."""
    return {name: parameter for name, parameter in student.model.named_parameters() if parameter.requires_grad}


def make_optimizer(parameters: dict[str, torch.nn.Parameter], training: Training, device: torch.device) -> torch.optim.AdamW:
    """AdamW; norms and biases are vectors and are not decayed."""
    matrices = [parameter for parameter in parameters.values() if parameter.ndim >= 2]
    vectors = [parameter for parameter in parameters.values() if parameter.ndim < 2]
    groups = [{"params": matrices, "weight_decay": number(training.weight_decay)}, {"params": vectors, "weight_decay": 0.0}]
    return torch.optim.AdamW(
        [group for group in groups if group["params"]], lr=number(training.learning_rate), fused=device.type in ("cpu", "cuda")
    )


def learning_rate(step: int, steps: int, training: Training) -> float:
    """Of step `step` (from 0): linear from 0 over the warm-up, then constant, or falling to 0 linearly or as half a cosine."""
    peak, warmup = number(training.learning_rate), round(number(training.warmup_ratio) * steps)
    if step < warmup:
        return peak * (step + 1) / warmup
    done = (step - warmup) / max(1, steps - warmup)
    factors: dict[str, Callable[[], float]] = {
        "constant": lambda: 1.0,
        "linear": lambda: 1.0 - done,
        "cosine": lambda: 0.5 * (1.0 + math.cos(math.pi * done)),
    }
    return peak * factors[training.schedule]()

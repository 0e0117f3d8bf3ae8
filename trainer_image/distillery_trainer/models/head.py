"""The head of a causal language model: from the last hidden state to logits."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch.nn import functional
from transformers import PreTrainedModel

from distillery.api import reasons
from distillery_trainer.errors import StageError


@dataclass(frozen=True)
class Head:
    """The output head: logits = cap(scale * (hidden @ weight.T + bias)), with cap(x) = softcap * tanh(x / softcap) where there is one.

    `weight` [vocab, hidden]; `bias` [vocab] or None. Scale: Cohere multiplies (logit_scale), Granite divides (logits_scaling); the cap is
    Gemma 2's (final_logit_softcapping).
    """

    weight: torch.Tensor
    bias: torch.Tensor | None = None
    scale: float = 1.0
    softcap: float | None = None

    def logits(self, hidden: torch.Tensor) -> torch.Tensor:
        """[tokens, hidden] to [tokens, vocab], in the model's arithmetic."""
        logits = functional.linear(hidden, self.weight, self.bias)
        if self.scale != 1.0:
            logits = logits * self.scale
        return logits if self.softcap is None else self.softcap * torch.tanh(logits / self.softcap)


def head_of(model: PreTrainedModel) -> Head:
    """The model's head, with the scale and cap that its configuration names."""
    config = model.config
    head: Any = model.get_output_embeddings()  # type: ignore[no-untyped-call]
    if head is None:
        raise StageError(reasons.UNSUPPORTED, f"spec.teacher.model: {config.model_type} has no output head; use a causal language model")
    divisor = getattr(config, "logits_scaling", None) or 1.0
    scale = (getattr(config, "logit_scale", None) or 1.0) * (getattr(config, "lm_head_multiplier", None) or 1.0) / divisor
    bias = getattr(head, "bias", None)
    return Head(
        head.weight.detach(), bias.detach() if bias is not None else None, float(scale), getattr(config, "final_logit_softcapping", None)
    )

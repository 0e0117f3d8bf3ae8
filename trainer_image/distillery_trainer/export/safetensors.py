"""A model in Hugging Face layout with weights of the precision asked for, and its runtime: transformers itself."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

import torch
import transformers
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel

from distillery_trainer.models.generate import generate


def write(model: Path, folder: Path, quantization: str) -> None:
    """Copy the model in folder `model` (fp32) to `folder`, weights as `quantization` (fp32, bf16) says."""
    weights = "*.safetensors*"
    shutil.copytree(model, folder, ignore=shutil.ignore_patterns(weights, "config.json") if quantization == "bf16" else None)
    if quantization == "bf16":
        student: PreTrainedModel = AutoModelForCausalLM.from_pretrained(model, dtype=torch.bfloat16)
        student.save_pretrained(folder)


class Transformers:
    """A folder loaded with from_pretrained, in the precision that it is stored in."""

    name = f"transformers {transformers.__version__}"

    def __init__(self, folder: Path, stop_ids: Collection[int], batch_size: int) -> None:
        self._model: PreTrainedModel = AutoModelForCausalLM.from_pretrained(folder, dtype="auto").train(False)
        self._tokenizer = AutoTokenizer.from_pretrained(folder)
        self._stops, self._batch_size = stop_ids, batch_size

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Free the model."""
        del self._model

    def answer(
        self, prompts: Sequence[Sequence[int]], max_new_tokens: int, on_rows: Callable[[int], None] | None = None
    ) -> list[list[int]]:
        """Greedy completions (token ids, with the token that ended them) of prompts of token ids."""
        return generate(self._model, self._tokenizer, prompts, max_new_tokens, self._batch_size, stop_ids=self._stops, on_batch=on_rows)

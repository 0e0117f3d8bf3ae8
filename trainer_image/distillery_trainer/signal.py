"""Reads the teacher's signal back from the traces stage: exact logits for any rows, without the teacher."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

from distillery.api import reasons

from .device import native_bfloat16
from .errors import StageError
from .losses import TeacherLogits
from .scoring import Head

#: {"shard": file, "offset": first row of its tensor "signal", "length": tokens}, as a line of train.jsonl or heldout.jsonl holds it.
Place = Mapping[str, Any]


class Signal:
    """Shards are memory-mapped: pages are read when a batch needs them, and the kernel may drop them again."""

    def __init__(self, folder: Path, lineage: Mapping[str, Any], device: torch.device, vocab: int) -> None:
        """`lineage` is the traces manifest's; `vocab` the student's: columns beyond it are padding and are not computed."""
        self._folder, self._device, self._vocab = folder, device, vocab
        self._shards: dict[str, torch.Tensor] = {}
        self._head = _head(folder, lineage["signal"], device, vocab) if lineage["signal"]["kind"] == "hiddenState" else None

    def logits(self, places: Sequence[Place | None]) -> TeacherLogits:
        """The teacher's logits for the completion tokens of these rows, in this order."""
        parts = [self._rows(place) for place in places]
        rows = torch.cat(parts).to(self._device) if parts else torch.zeros(0, 0)
        head = self._head
        if head is None:
            return lambda start, stop: rows[start:stop, : self._vocab]
        return lambda start, stop: head.logits(rows[start:stop].to(head.weight.dtype))

    def _rows(self, place: Place | None) -> torch.Tensor:
        if place is None:
            text = "the traces hold no teacher signal for training rows, since they were made for hard labels alone"
            remedy = "remove the 'response' objective, or make traces with it (teacher.model)"
            raise StageError(reasons.BAD_INPUT, f"spec.method.rounds[0].objectives: {text}; {remedy}")
        name = place["shard"]
        if name not in self._shards:
            self._shards[name] = load_file(self._folder / name)["signal"]
        return self._shards[name][place["offset"] : place["offset"] + place["length"]]


def _head(folder: Path, signal: Mapping[str, Any], device: torch.device, vocab: int) -> Head:
    """The teacher's head in the type that the device multiplies well: bfloat16 stays so only where that is native."""
    tensors = load_file(folder / "head.safetensors")
    stored = tensors["weight"].dtype
    dtype = stored if stored == torch.float32 or (stored == torch.bfloat16 and native_bfloat16(device)) else torch.float32
    weight, bias = tensors["weight"][:vocab].to(device, dtype), tensors.get("bias")
    return Head(weight, bias[:vocab].to(device, dtype) if bias is not None else None, float(signal["logitScale"]), signal["logitSoftcap"])

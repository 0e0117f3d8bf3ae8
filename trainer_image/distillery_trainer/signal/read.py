"""Reads the teacher's signal back from the traces stage, without the teacher: exact logits, or what an API told of its distribution."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import torch
from safetensors.torch import load_file

from distillery.api import reasons
from distillery_trainer.data.traces import Place, SignalRecord, Traces
from distillery_trainer.errors import StageError
from distillery_trainer.models.device import native_bfloat16
from distillery_trainer.models.head import Head
from distillery_trainer.stores import safe_join

from .top_k import TeacherLogits, TeacherSignal, TopK, certain


class Placed(Protocol):
    """A row with the token ids of its completion and the place of its signal."""

    @property
    def completion(self) -> Sequence[int]:
        """Token ids, the end of the turn included."""

    @property
    def signal(self) -> Place | None:
        """Where the signal is."""


class Signal:
    """Shards are memory-mapped: pages are read when a batch needs them, and the kernel may drop them again."""

    def __init__(self, folder: Path, record: SignalRecord, device: torch.device, vocab: int) -> None:
        """`vocab` is the student's: columns beyond it are padding and are not computed."""
        self._folder, self._device, self._vocab = folder, device, vocab
        self._shards: dict[str, torch.Tensor] = {}
        self._head = _head(folder, record, device, vocab) if record.kind == "hiddenState" else None

    def of(self, rows: Sequence[Placed]) -> TeacherLogits:
        """The teacher's logits for the completion tokens of these rows, in this order."""
        return self.logits([row.signal for row in rows])

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
            raise _none()
        name = place.shard
        if name not in self._shards:
            self._shards[name] = load_file(safe_join(self._folder, name))["signal"]
        return self._shards[name][place.offset : place.offset + place.length]


class TopKSignal:
    """What an API told of its likeliest tokens (see top_k.py). Tokens that it told nothing of, and whole rows, are certain: their text."""

    def __init__(self, folder: Path, record: SignalRecord, device: torch.device, vocab: int) -> None:
        self._folder, self._device, self._vocab, self._k = folder, device, vocab, record.k
        self._shards: dict[str, dict[str, torch.Tensor]] = {}

    def of(self, rows: Sequence[Placed]) -> TeacherSignal:
        """The distributions for the completion tokens of these rows, in this order."""
        parts = [part for row in rows for part in self._row(row)]
        whole = TopK(*(torch.cat(tensors).to(self._device) for tensors in zip(*parts, strict=True)))
        return whole.part

    def _row(self, row: Placed) -> list[TopK]:
        """Where the server said nothing of the end of the turn, the last tokens are certain."""
        targets = torch.tensor(row.completion, dtype=torch.long)
        if row.signal is None:
            return [certain(targets, self._k)]
        name, offset, length = row.signal.shard, row.signal.offset, row.signal.length
        if name not in self._shards:
            self._shards[name] = load_file(safe_join(self._folder, name))
        shard = self._shards[name]
        ids, logprobs, tail = (shard[tensor][offset : offset + length] for tensor in ("ids", "logprobs", "tail"))
        told = self._within(TopK(ids.long(), logprobs, tail), targets[:length])
        return [told, certain(targets[length:], self._k)]

    def _within(self, told: TopK, targets: torch.Tensor) -> TopK:
        """Tokens that the student's vocabulary lacks count in the tail."""
        inside = told.ids < self._vocab
        if bool(inside.all()):
            return told
        lost = torch.where(inside, 0.0, told.logprobs.exp()).sum(-1)
        first = told.ids.gather(1, inside.int().argmax(-1, keepdim=True))
        moved = TopK(
            torch.where(inside, told.ids, first), torch.where(inside, told.logprobs, float("-inf")), (told.tail + lost).clamp(max=1.0)
        )
        none, known = certain(targets, self._k), inside.any(-1)
        return TopK(
            torch.where(known[:, None], moved.ids, none.ids),
            torch.where(known[:, None], moved.logprobs, none.logprobs),
            torch.where(known, moved.tail, none.tail),
        )


def open_signal(traces: Traces, device: torch.device, vocab: int) -> Signal | TopKSignal:
    """The signal of finished traces, for the response objective. StageError where they hold none."""
    record = traces.record.signal
    if record is None:
        raise _none()
    kind = Signal if record.whole else TopKSignal
    return kind(traces.folder, record, device, vocab)


def _none() -> StageError:
    text = "the traces hold no teacher signal for training rows, since they were made for hard labels alone"
    remedy = "remove the 'response' objective, or make traces with it (teacher.model, or teacher.endpoint with tokenizer and topLogprobs)"
    return StageError(reasons.BAD_INPUT, f"spec.method.rounds[0].objectives: {text}; {remedy}")


def _head(folder: Path, record: SignalRecord, device: torch.device, vocab: int) -> Head:
    """The teacher's head in the type that the device multiplies well: bfloat16 stays so only where that is native."""
    tensors = load_file(folder / "head.safetensors")
    stored = tensors["weight"].dtype
    dtype = stored if stored == torch.float32 or (stored == torch.bfloat16 and native_bfloat16(device)) else torch.float32
    weight, bias = tensors["weight"][:vocab].to(device, dtype), tensors.get("bias")
    return Head(weight, bias[:vocab].to(device, dtype) if bias is not None else None, float(record.logit_scale), record.logit_softcap)

"""The teacher's signal for given completions: what its head reads, or its logits, at each position that predicts a completion token."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol, TypeVar

import torch
from transformers import PreTrainedModel

from distillery.api import reasons
from distillery_trainer.errors import StageError

from .head import head_of

#: Logits in float32 that are held at once while the entropy is taken: 32 Mi numbers are 128 MiB.
_LOGITS_AT_ONCE = 32 << 20
#: Relative to the largest logit; the two ways of computing them differ by rounding alone.
_CLOSE = {torch.float32: 1e-4, torch.bfloat16: 3e-2}

SignalKind = Literal["logits", "hiddenState"]


@dataclass
class Tally:
    """Sums over completion tokens, in nats."""

    tokens: int = 0
    entropy: float = 0.0
    negative_log_likelihood: float = 0.0

    def add(self, other: Tally) -> None:
        """Add another sum."""
        self.tokens += other.tokens
        self.entropy += other.entropy
        self.negative_log_likelihood += other.negative_log_likelihood


def signal_kind(asked: str, model: PreTrainedModel) -> SignalKind:
    """logits or hiddenState: the smaller of the two exact ones where the job leaves it open."""
    head = head_of(model)
    if asked == "auto":
        return "logits" if head.weight.shape[0] <= head.weight.shape[1] else "hiddenState"
    return "logits" if asked == "logits" else "hiddenState"


class Scorer:
    """Runs a frozen model over prompt + completion. Exactness is checked on the first row, not assumed from the family's name."""

    def __init__(self, model: PreTrainedModel, kind: SignalKind, field: str = "spec.teacher.model") -> None:
        self.model, self.kind, self.head, self.field = model, kind, head_of(model), field
        self._decoder: Any = model.get_decoder()  # type: ignore[no-untyped-call]
        self._checked = False

    @torch.inference_mode()
    def score(self, rows: Sequence[tuple[Sequence[int], Sequence[int]]]) -> tuple[list[torch.Tensor], Tally]:
        """For each (prompt ids, completion ids): [completion tokens, width] on the CPU; row t was computed from what precedes token t.

        Right-padded; the mask comes from lengths.
        """
        lengths = [len(prompt) + len(completion) for prompt, completion in rows]
        ids = torch.zeros(len(rows), max(lengths), dtype=torch.long)
        mask = torch.zeros_like(ids)
        for line, (prompt, completion) in enumerate(rows):
            ids[line, : lengths[line]] = torch.tensor([*prompt, *completion])
            mask[line, : lengths[line]] = 1
        ids, mask = ids.to(self.model.device), mask.to(self.model.device)
        states = self._decoder(input_ids=ids, attention_mask=mask, use_cache=False).last_hidden_state
        if not self._checked:
            self._check(ids[:1, : lengths[0]], states[0, : lengths[0]])
        wanted = [states[line, len(prompt) - 1 : lengths[line] - 1] for line, (prompt, _) in enumerate(rows)]
        targets = torch.cat([torch.tensor(completion) for _, completion in rows]).to(self.model.device)
        counts = [len(completion) for _, completion in rows]
        kept, tally = self._signal(torch.cat(wanted), targets)
        return list(torch.split(kept.cpu(), counts)), tally

    def _signal(self, hidden: torch.Tensor, targets: torch.Tensor) -> tuple[torch.Tensor, Tally]:
        tally, parts = Tally(), []
        for chunk, target in self._chunks(hidden, targets):
            logits = self.head.logits(chunk)
            if self.kind == "logits":
                parts.append(logits)
            log_p = logits.float().log_softmax(-1)
            entropy = torch.special.entr(log_p.exp()).sum().item()
            tally.add(Tally(len(target), entropy, -log_p.gather(1, target[:, None]).sum().item()))
        return (torch.cat(parts) if self.kind == "logits" else hidden), tally

    def _chunks(self, hidden: torch.Tensor, targets: torch.Tensor) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        size = max(1, _LOGITS_AT_ONCE // self.head.weight.shape[0])
        yield from zip(torch.split(hidden, size), torch.split(targets, size), strict=True)

    def _check(self, ids: torch.Tensor, states: torch.Tensor) -> None:
        """Refuse a family whose logits are made in a way that `Head` does not know."""
        self._checked = True
        wanted = self.model(input_ids=ids, use_cache=False).logits[0].float()
        if wanted.isnan().any():
            text = "gives no numbers for the first rows (NaN): its weights are damaged, or its arithmetic overflows"
            raise StageError(reasons.MODEL_UNREADABLE, f"{self.field}: {text}: save them again, or set precision to float32")
        made = self.head.logits(states).float()
        error = ((made - wanted).abs().max() / wanted.abs().max().clamp(min=1e-6)).item()
        if not error <= _CLOSE.get(self.model.dtype, 3e-2):
            raise StageError(
                reasons.UNSUPPORTED,
                f"{self.field}: {self.model.config.model_type} computes its logits in a way that this version cannot repeat from the"
                f" hidden state (off by {error:.2g} of the largest): use a model of another family",
            )


class Long(Protocol):
    """What has a length in tokens."""

    @property
    def tokens(self) -> int:
        """Prompt and completion."""


Row = TypeVar("Row", bound=Long)


def padded_batches(rows: Iterable[Row], limit: int) -> Iterator[list[Row]]:
    """Runs of rows, which are in rising length, of at most `limit` tokens with their padding (one row at least)."""
    batch: list[Row] = []
    for row in rows:
        if batch and (len(batch) + 1) * row.tokens > limit:
            yield batch
            batch = []
        batch.append(row)
    if batch:
        yield batch

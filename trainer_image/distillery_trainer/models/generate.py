"""Batched decoding with a key/value cache: how teacher and student write their answers."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Collection, Sequence

import torch
from transformers import DynamicCache, PreTrainedModel, PreTrainedTokenizerBase

from .endings import end_ids
from .positions import position_limit


@torch.inference_mode()
def generate(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    prompts: Sequence[Sequence[int]],
    max_new_tokens: int,
    batch_size: int,
    temperature: float = 0.0,
    seed: int = 0,
    stop_ids: Collection[int] | None = None,
    on_batch: Callable[[int], None] | None = None,
) -> list[list[int]]:
    """Completions of `prompts` (token ids), in their order.

    A completion ends with the stop token that ended it; one without was cut, by `max_new_tokens` or by the end of the model's positions.
    `stop_ids` defaults to the eos ids of the model's generation config and the tokenizer. Temperature 0 is greedy; above, row i draws from
    its own generator seeded by (seed, i), so that its text does not depend on which rows share its batch. `on_batch` hears the number of
    rows done, and may raise to stop. Rows of like length share a batch; padding is on the left, masked and without positions.
    """
    if not all(prompts):
        raise ValueError(f"prompt {[bool(p) for p in prompts].index(False)} has no tokens: there is nothing to go on from")
    stops = frozenset(default_stop_ids(model, tokenizer) if stop_ids is None else stop_ids)
    positions = position_limit(model.config)
    fitting = (row for row in range(len(prompts)) if len(prompts[row]) <= positions and max_new_tokens > 0)
    order = sorted(fitting, key=lambda row: (len(prompts[row]), row))
    answers: list[list[int]] = [[] for _ in prompts]
    was_training = model.training
    model.train(False)
    for start in range(0, len(order), batch_size):
        rows = order[start : start + batch_size]
        samplers = [_generator(seed, row) for row in rows] if temperature > 0 else None
        batch = _Batch(model, [prompts[row] for row in rows], max_new_tokens, stops, temperature, samplers)
        for row, completion in zip(rows, batch.run(), strict=True):
            answers[row] = completion
        if on_batch:
            on_batch(start + len(rows))
    model.train(was_training)
    return answers


def default_stop_ids(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> set[int]:
    """Every id that ends an answer: those of generation_config.json, and the tokenizer's eos token."""
    return {*end_ids(model.generation_config), *([] if tokenizer.eos_token_id is None else [int(tokenizer.eos_token_id)])}


def _generator(seed: int, row: int) -> torch.Generator:
    """The CPU generator looks at 32 bits of its seed only, hence the digest: neighbouring seeds and rows share nothing."""
    return torch.Generator().manual_seed(int.from_bytes(hashlib.sha256(f"{seed}/{row}".encode()).digest()[:4]))


class _Batch:
    """One left-padded batch. Rows that ended leave the cache once half of it is idle."""

    def __init__(
        self,
        model: PreTrainedModel,
        prompts: Sequence[Sequence[int]],
        max_new_tokens: int,
        stops: frozenset[int],
        temperature: float,
        samplers: list[torch.Generator] | None,
    ) -> None:
        self.model, self.stops, self.temperature, self.samplers = model, stops, temperature, samplers
        self.out: list[list[int]] = [[] for _ in prompts]
        self.positions = position_limit(model.config)
        # the last new token is never fed back, hence + 1
        self.room = [min(max_new_tokens, self.positions - len(p) + 1) for p in prompts]
        width = max(len(p) for p in prompts)
        self.ids = torch.tensor([[0] * (width - len(p)) + list(p) for p in prompts], dtype=torch.long, device=model.device)
        self.mask = torch.tensor([[0] * (width - len(p)) + [1] * len(p) for p in prompts], dtype=torch.long, device=model.device)
        self.cache = DynamicCache(config=model.config)

    def run(self) -> list[list[int]]:
        rows = list(range(len(self.out)))  # row of each line of the cache
        positions = (self.mask.cumsum(1) - 1).clamp(min=0)
        ids = self.ids
        running = set(rows)
        while running:
            next_ids = self._step(ids, positions, rows)
            for line, row in enumerate(rows):
                if row in running:
                    self.out[row].append(next_ids[line])
                    if next_ids[line] in self.stops or len(self.out[row]) >= self.room[row]:
                        running.discard(row)
            kept = [line for line, row in enumerate(rows) if row in running]
            if not kept:
                break
            if len(kept) * 2 <= len(rows):
                rows, next_ids = self._keep(kept, rows, next_ids)
                positions = positions[kept]
            ids = torch.tensor(next_ids, dtype=torch.long, device=self.mask.device)[:, None]
            positions = (positions[:, -1:] + 1).clamp(max=self.positions - 1)  # of rows that ended, but are still in the batch
            self.mask = torch.cat([self.mask, self.mask.new_ones(len(rows), 1)], dim=1)
        return self.out

    def _step(self, ids: torch.Tensor, positions: torch.Tensor, rows: list[int]) -> list[int]:
        output = self.model(
            input_ids=ids,
            attention_mask=self.mask,
            position_ids=positions,
            past_key_values=self.cache,
            use_cache=True,
            logits_to_keep=1,
        )
        logits = output.logits[:, -1].float()
        if self.samplers is None:
            return [int(i) for i in logits.argmax(-1).tolist()]
        weights = (logits / self.temperature).softmax(-1).cpu()
        return [int(torch.multinomial(w, 1, generator=self.samplers[row])) for w, row in zip(weights, rows, strict=True)]

    def _keep(self, kept: list[int], rows: list[int], next_ids: list[int]) -> tuple[list[int], list[int]]:
        index = torch.tensor(kept, device=self.mask.device)
        self.cache.batch_select_indices(index)
        self.mask = self.mask[index]
        return [rows[line] for line in kept], [next_ids[line] for line in kept]

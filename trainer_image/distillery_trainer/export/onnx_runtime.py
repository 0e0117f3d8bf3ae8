"""Runs an exported ONNX folder in ONNX Runtime: batched greedy decoding over the graph's cache."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import onnxruntime  # type: ignore[import-untyped]

from distillery.api import reasons
from distillery_trainer.errors import StageError
from distillery_trainer.models.device import cpu_limit

Ids = npt.NDArray[np.int64]
#: ONNX Runtime has a class for each of its status codes, and none above them.
_FAILURES = tuple(c for c in vars(onnxruntime.capi.onnxruntime_pybind11_state).values() if isinstance(c, type) and issubclass(c, Exception))


class OnnxRuntime:
    """A loaded graph. `stop_ids` end an answer; tokens past the model's last position repeat it, and are no answer of the model."""

    name = f"ONNX Runtime {onnxruntime.__version__}"

    def __init__(self, file: Path, stop_ids: Collection[int], batch_size: int = 16, positions: int = 1 << 31) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = cpu_limit()
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")  # other pods share these CPUs
        options.log_severity_level = 3
        try:
            self._session = onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])
        except _FAILURES as error:
            raise StageError(reasons.MODEL_UNREADABLE, f"ONNX Runtime cannot load {file.name}: {error}") from error
        self._stops, self._batch_size, self._last = frozenset(stop_ids), batch_size, positions - 1
        self._past = [i for i in self._session.get_inputs() if i.name.startswith("past_key_values.")]
        self._inputs = {i.name for i in self._session.get_inputs()}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Free the model."""
        del self._session

    def answer(
        self, prompts: Sequence[Sequence[int]], max_new_tokens: int, on_rows: Callable[[int], None] | None = None
    ) -> list[list[int]]:
        """Greedy completions (token ids, with the token that ended them) of prompts of token ids. Rows of like length share a batch."""
        answers: list[list[int]] = [[] for _ in prompts]
        order = sorted(range(len(prompts)), key=lambda row: len(prompts[row]))
        for start in range(0, len(order), self._batch_size):
            rows = order[start : start + self._batch_size]
            for row, answer in zip(rows, self._batch([prompts[row] for row in rows], max_new_tokens), strict=True):
                answers[row] = answer
            if on_rows:
                on_rows(start + len(rows))
        return answers

    def logits(self, ids: Ids, mask: Ids, past: Sequence[npt.NDArray[Any]] | None = None) -> tuple[npt.NDArray[np.float32], list[Any]]:
        """Logits [batch, sequence, vocabulary] of the tokens `ids` [batch, sequence] after `past`, and the new cache.

        `mask` is [batch, past + sequence], 0 for padding.
        """
        if past is None:
            past = [np.zeros((len(ids), i.shape[1], 0, i.shape[3]), np.float32) for i in self._past]
        positions = (mask.cumsum(1) - 1).clip(0, self._last)[:, -ids.shape[1] :]
        feed = {"input_ids": ids, "attention_mask": mask, "position_ids": positions}
        feed |= {i.name: value for i, value in zip(self._past, past, strict=True)}
        logits, *present = self._session.run(None, {name: value for name, value in feed.items() if name in self._inputs})
        return logits, present

    def _batch(self, prompts: Sequence[Sequence[int]], max_new_tokens: int) -> list[list[int]]:
        width = max(map(len, prompts))
        ids = np.array([[0] * (width - len(p)) + list(p) for p in prompts], np.int64)
        mask = np.array([[0] * (width - len(p)) + [1] * len(p) for p in prompts], np.int64)
        answers: list[list[int]] = [[] for _ in prompts]
        running, past = set(range(len(prompts))), None
        for _ in range(max_new_tokens):
            logits, past = self.logits(ids, mask, past)
            ids = logits[:, -1].argmax(-1)[:, None]
            for row in list(running):
                answers[row].append(int(ids[row, 0]))
                if answers[row][-1] in self._stops:
                    running.discard(row)
            if not running:
                break
            mask = np.concatenate([mask, np.ones_like(ids)], axis=1)
        return answers

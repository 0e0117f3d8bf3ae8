"""The held-out rows that every model is measured on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from distillery.api.data import Answer
from distillery.api.measure import Generation

from .metrics import answer_of


@dataclass(frozen=True)
class HeldOut:
    """The held-out rows, the teacher's part in them, and how answers are generated and compared."""

    lines: list[dict[str, Any]]
    traces: Path
    lineage: dict[str, Any]
    generation: Generation
    tick: Callable[[int], None]

    @property
    def answer(self) -> Answer | None:
        """How the true answer is found; None where the rows have none."""
        return answer_of(self.lineage["answer"])

    @property
    def white_box(self) -> bool:
        """Whether the traces hold the teacher's whole distribution over the held-out completions; an API gives none."""
        signal = self.lineage["signal"]
        return signal is not None and signal["kind"] in ("logits", "hiddenState")

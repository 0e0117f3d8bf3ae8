"""Makes an artifact of a format, and opens it in the runtime that its users have."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from types import TracebackType
from typing import Protocol, Self

from distillery.api.measure import Export


class Runtime(Protocol):
    """An artifact that answers. `name` says what runs it, with its version."""

    name: str

    def answer(
        self, prompts: Sequence[Sequence[int]], max_new_tokens: int, on_rows: Callable[[int], None] | None = None
    ) -> list[list[int]]:
        """Greedy completions (token ids, with the token that ended them) of prompts of token ids; `on_rows` hears how many are done."""

    def __enter__(self) -> Self: ...

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None: ...


def main_file(export: Export) -> str:
    """What a user points a runtime at, inside the artifact's folder; empty where it is the folder."""
    return {"gguf": f"model-{export.quantization.upper()}.gguf", "onnx": "model.onnx", "safetensors": ""}[export.format]


def make(export: Export, model: Path, folder: Path) -> None:
    """Write the artifact of the model in folder `model` into the new `folder`. StageError (Unsupported, DoesNotFit) if it cannot be."""
    if export.format == "gguf":
        from . import gguf

        folder.mkdir(parents=True)
        gguf.write(model, folder / main_file(export), export.quantization)
    elif export.format == "onnx":
        from . import onnx

        onnx.write(model, folder, export.quantization)
    else:
        from . import safetensors

        safetensors.write(model, folder, export.quantization)


def open_runtime(export: Export, folder: Path, stop_ids: Collection[int], context: int, positions: int, batch_size: int) -> Runtime:
    """The artifact in `folder`, loaded. `context` is the longest prompt with its answer; the model knows `positions` positions."""
    if export.format == "gguf":
        from .llama_cpp import LlamaCpp

        return LlamaCpp(folder / main_file(export), context)
    if export.format == "onnx":
        from .onnx_runtime import OnnxRuntime

        return OnnxRuntime(folder / main_file(export), stop_ids, batch_size, positions)
    from .safetensors import Transformers

    return Transformers(folder, stop_ids, batch_size)

"""How faithful each export of a model is, in its own runtime, on held-out rows (`heldout.jsonl` of a traces stage, or rows like it).

    python -m tests.bench.artifacts MODEL ROWS --extract '(\\d)$' --max-new-tokens 8

MODEL is a folder that from_pretrained loads (a published `model/`). Prints a table: part of the answers equal to torch's fp32, accuracy
where rows have an `answer` or `truth`, size, seconds to write, tokens per second; then token ids and chat prompts against llama.cpp's.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tests.unit.trainer import exported
from transformers import AutoModelForCausalLM, AutoTokenizer

from distillery.api.data import Answer
from distillery.api.measure import Export
from distillery_trainer.data.examples import read_lines
from distillery_trainer.data.templates import Renderer, template_of
from distillery_trainer.export import gguf
from distillery_trainer.export.llama_cpp import LlamaCpp
from distillery_trainer.export.onnx_runtime import OnnxRuntime
from distillery_trainer.export.runtimes import main_file, make, open_runtime
from distillery_trainer.export.safetensors import Transformers
from distillery_trainer.measure.metrics import label_accuracy
from distillery_trainer.models.device import set_threads

FORMATS = (("gguf", "f16"), ("gguf", "q8_0"), ("gguf", "q4_0"), ("onnx", "fp32"), ("onnx", "int8"))
#: A wrong model never stops, so its answers are the longest.
CONTROL_ROWS = 100


@dataclass
class Line:
    """One artifact. `same`: part of the answers equal to torch's fp32, token for token; `accuracy` beside torch's own."""

    name: str
    same: float
    accuracy: float | None
    megabytes: float = 0.0
    export_seconds: float = 0.0
    tokens_per_second: float = 0.0

    def text(self) -> str:
        """As a row of the table."""
        accuracy = "" if self.accuracy is None else f"{self.accuracy:.2%}"
        numbers = f"{self.megabytes:.2f} | {self.export_seconds:.1f} | {self.tokens_per_second:.0f}"
        return f"| {self.name} | {self.same:.2%} | {accuracy} | {numbers} |"


@dataclass
class Report:
    """All that A3 asks of one model."""

    rows: int
    lines: dict[str, Line] = field(default_factory=dict)
    onnx_difference: float = 0.0
    other_tokens: list[str] = field(default_factory=list)
    other_chats: list[Any] = field(default_factory=list)

    def table(self) -> str:
        """For docs/benchmarks.md."""
        head = "| artifact | same answers as torch fp32 | accuracy | MB | export s | tokens/s |\n|---|---|---|---|---|---|"
        return "\n".join((head, *(line.text() for line in self.lines.values())))

    def text(self) -> str:
        """All of it."""
        return (
            f"{self.rows} rows\n\n{self.table()}\n\n"
            f"ONNX fp32 logits: at most {self.onnx_difference:.2g} from torch\n"
            f"texts with other token ids: {len(self.other_tokens)} of 1000; chats rendered otherwise: {len(self.other_chats)}"
        )


class Bench:
    """One model, its rows, and torch's answers to them."""

    def __init__(self, model: Path, rows: Sequence[dict[str, Any]], answer: Answer | None, max_new_tokens: int) -> None:
        self.model, self.answer, self.max_new_tokens = model, answer, max_new_tokens
        self.words = AutoTokenizer.from_pretrained(model)
        self.renderer = Renderer(self.words, template_of(self.words))
        self.prompts = [self.renderer.prompt_ids(row["prompt"]) for row in rows]
        self.truths = [str(row.get("truth", row.get("answer"))) for row in rows]
        self.report = Report(len(rows))
        with Transformers(_float32(model), self.renderer.stop_ids, 32) as runtime:
            self.wanted: list[list[int]] = []
            self.wanted = self.measure("torch fp32", runtime)

    def measure(self, name: str, runtime: Any, rows: int | None = None, **more: float) -> list[list[int]]:
        """Let a runtime answer (the first `rows`), write its line, and show it: all of them can take an hour."""
        began = time.perf_counter()
        found: list[list[int]] = runtime.answer(self.prompts[:rows], self.max_new_tokens)
        seconds = time.perf_counter() - began
        same = sum(a == b for a, b in zip(found, (self.wanted or found)[:rows], strict=True)) / len(found)
        texts = [self.renderer.text(ids) for ids in found]
        accuracy = label_accuracy(texts, self.truths[:rows], self.answer) if self.answer else None
        self.report.lines[name] = Line(name, same, accuracy, tokens_per_second=sum(map(len, found)) / seconds, **more)
        print(self.report.lines[name].text(), flush=True)
        return found

    def export(self, folder: Path, kind: str, quantization: str) -> Path:
        """Write one artifact, and measure it."""
        export = Export.model_validate({"name": "x", "format": kind, "quantization": quantization})
        target = folder / f"{kind}-{quantization}"
        began = time.perf_counter()
        make(export, self.model, target)
        seconds = time.perf_counter() - began
        size = sum(file.stat().st_size for file in target.glob("model*")) / 1e6
        with open_runtime(export, target, self.renderer.stop_ids, self.context, 1 << 30, 32) as runtime:
            self.measure(f"{kind} {quantization}", runtime, megabytes=size, export_seconds=seconds)
        return target / main_file(export)

    @property
    def context(self) -> int:
        """Tokens of the longest prompt with its answer."""
        return max(map(len, self.prompts)) + self.max_new_tokens

    def negative_control(self, folder: Path) -> None:
        """A llama file without the permutation of queries and keys: it must not pass for a good one, and some rows show that."""
        gguf.write(self.model, folder / "wrong.gguf", "f16", permute=False)
        with LlamaCpp(folder / "wrong.gguf", self.context) as runtime:
            self.measure("gguf f16, not permuted", runtime, CONTROL_ROWS)

    def onnx_logits(self, file: Path, count: int = 8) -> None:
        """Largest difference of an fp32 graph's logits to torch's over some prompts."""
        model, graph = AutoModelForCausalLM.from_pretrained(self.model, dtype=torch.float32).train(False), OnnxRuntime(file, [])
        for prompt in self.prompts[:count]:
            found, _ = graph.logits(np.array([prompt]), np.ones((1, len(prompt)), np.int64))
            with torch.no_grad():
                wanted = model(torch.tensor([prompt])).logits.numpy()
            self.report.onnx_difference = max(self.report.onnx_difference, float(np.abs(found - wanted).max()))

    def tokens_and_chats(self, file: Path, count: int = 1000) -> None:
        """Token ids of fuzzed texts and of the rows, and rendered conversations, by llama.cpp and by the tokenizer beside the model."""
        with LlamaCpp(file, self.context) as runtime:
            self.report.other_tokens = [t for t in exported.texts(count) if runtime.tokenize(t) != self.words(t).input_ids]
            if self.renderer.template is None:
                return
            chats = [[{"role": "user", "content": text}] for text in ("Hi", "a\nb {{ c }} <1>", *exported.texts(20, seed=5))]
            chats += [[*chat, {"role": "assistant", "content": "yes"}, {"role": "user", "content": "why?"}] for chat in chats[:4]]
            render = self.words.apply_chat_template
            self.report.other_chats = [c for c in chats if runtime.render(c) != render(c, tokenize=False, add_generation_prompt=True)]


def _float32(model: Path) -> Path:
    """A folder with the model in fp32: committed examples are stored in fp16."""
    folder = Path(tempfile.mkdtemp(prefix="float32-"))
    AutoModelForCausalLM.from_pretrained(model, dtype=torch.float32).save_pretrained(folder)
    AutoTokenizer.from_pretrained(model).save_pretrained(folder)
    return folder


def examine(model: Path, rows: Sequence[dict[str, Any]], answer: Answer | None, max_new_tokens: int) -> Report:
    """Everything, on one model."""
    bench = Bench(model, rows, answer, max_new_tokens)
    with tempfile.TemporaryDirectory() as scratch:
        files = {pair: bench.export(Path(scratch), *pair) for pair in FORMATS}
        bench.negative_control(Path(scratch))
        bench.onnx_logits(files["onnx", "fp32"])
        bench.tokens_and_chats(files["gguf", "q8_0"])
    return bench.report


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("rows", type=Path)
    parser.add_argument("--extract", help="regular expression whose first group is the answer")
    parser.add_argument("--max-new-tokens", type=int, default=64)
    parser.add_argument("--limit", type=int, default=1000)
    options = parser.parse_args()
    set_threads()
    answer = Answer(extract=options.extract) if options.extract else None
    report = examine(options.model, read_lines(options.rows)[: options.limit], answer, options.max_new_tokens)
    print(report.text())


if __name__ == "__main__":
    main()

"""Tiny models with random weights, and jobs around them: what the trainer's tests run on, made in a second without a network."""

from __future__ import annotations

import json
import signal
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import (
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedModel,
    PreTrainedTokenizerFast,
    Qwen2Config,
    Qwen2ForCausalLM,
    Qwen3Config,
    Qwen3ForCausalLM,
)

from distillery.api.job import FrozenJob
from distillery.api.result import StageResult, parse_result
from distillery_trainer.runner import execute

CHATML = (
    "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\n' + m['content'] + '<|im_end|>' + '\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
TEXTS = ["the quick brown fox jumps over the lazy dog", "seven times eight is fifty six", "Paris is a city in France"] * 8
PAIRS = [
    {"prompt": f"say {word}", "completion": f"{word} it is"} for word in ("fox", "dog", "city", "six", "lazy", "over", "Paris", "seven")
]


def tokenizer(template: str | None = CHATML, eos: str = "<|im_end|>", size: int = 320) -> PreTrainedTokenizerFast:
    """Byte-level BPE of `size` ids; pad is EOS, as SmolLM2 has it."""
    raw = Tokenizer(models.BPE())
    raw.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    raw.decoder = decoders.ByteLevel()
    special = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    raw.train_from_iterator(
        TEXTS,
        trainers.BpeTrainer(
            vocab_size=size, special_tokens=special, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False
        ),
    )
    made = PreTrainedTokenizerFast(tokenizer_object=raw, eos_token=eos, pad_token=eos, clean_up_tokenization_spaces=False)
    made.chat_template = template
    return made


def model(
    family: str = "llama", vocab: int = 320, hidden: int = 64, layers: int = 2, seed: int = 0, positions: int = 256, **more: Any
) -> PreTrainedModel:
    """A random model of a family; large weights, so that its distributions are far from uniform."""
    torch.manual_seed(seed)
    shape = {"vocab_size": vocab, "hidden_size": hidden, "num_hidden_layers": layers, "num_attention_heads": 4, "initializer_range": 0.3}
    rest = {"intermediate_size": 2 * hidden, "num_key_value_heads": 2, "max_position_embeddings": positions}
    if family == "gpt2":
        config = GPT2Config(vocab_size=vocab, n_embd=hidden, n_layer=layers, n_head=4, n_positions=positions, initializer_range=0.3, **more)
        return GPT2LMHeadModel(config).eval()
    if family == "qwen2":
        return Qwen2ForCausalLM(Qwen2Config(**shape, **rest, **more)).eval()
    if family == "qwen3":
        return Qwen3ForCausalLM(Qwen3Config(**shape, **rest, head_dim=hidden // 4, **more)).eval()
    return LlamaForCausalLM(LlamaConfig(**shape, **rest, **more)).eval()


def save(folder: Path, made: PreTrainedModel, words: PreTrainedTokenizerFast) -> str:
    """The file:// URI of a model's folder."""
    made.generation_config.eos_token_id = words.eos_token_id
    made.save_pretrained(folder)
    words.save_pretrained(folder)
    return f"file://{folder}"


def lines(path: Path, rows: Sequence[Mapping[str, Any]]) -> str:
    """The file:// URI of a JSONL file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return f"file://{path}"


def spec(root: Path, **replaced: Any) -> dict[str, Any]:
    """A small job whose teacher, rows and output are in `root`; keywords replace fields."""
    return {
        "teacher": {"model": {"uri": f"file://{root}/teacher", "precision": "float32"}},
        "student": {"fromTeacher": {"numHiddenLayers": 1}},
        "data": {"train": {"uri": f"file://{root}/train.jsonl", "format": "promptCompletion"}},
        "output": {"uri": f"file://{root}/out"},
        **replaced,
    }


@contextmanager
def kept_handlers() -> Iterator[None]:
    """A stage catches signals: the handlers of before come back."""
    before = signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before[0])
        signal.signal(signal.SIGINT, before[1])


class Place:
    """A job's folders, and the environment of its stages."""

    def __init__(self, root: Path, spec: Mapping[str, Any], uid: str = "uid-1") -> None:
        self.root = root
        self.job = FrozenJob.model_validate({"namespace": "team", "name": "job", "uid": uid, "spec": spec})
        (root / "job.json").write_text(self.job.model_dump_json(by_alias=True, exclude_none=True))
        self.environment = {
            "DISTILLERY_JOB": str(root / "job.json"),
            "DISTILLERY_WORK": str(root / "work"),
            "DISTILLERY_RESULT": str(root / "result.json"),
            "DISTILLERY_PROGRESS_FILE": str(root / "progress.json"),
        }

    def result(self) -> StageResult:
        """The last termination message."""
        found = parse_result((self.root / "result.json").read_text())
        assert found is not None
        return found

    def execute(self, kind: str, known: str = "", inputs: Mapping[str, str] | None = None) -> int:
        """Run a stage as its pod runs it; its exit code. A stage catches signals: the test's own handlers come back."""
        with kept_handlers():
            return execute.execute(kind, kind, known, inputs or {}, self.environment)

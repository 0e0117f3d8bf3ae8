"""Students for the export tests: each family that a GGUF file can hold, tokenizers of each rule, texts that are hard to cut."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import torch
from tests.unit.trainer import tiny
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from transformers import (
    AutoModelForCausalLM,
    LlamaConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    PreTrainedTokenizerFast,
    Qwen2Config,
    Qwen2Tokenizer,
    Qwen3Config,
)

from distillery_trainer.export.pretokenizers import KNOWN

CONFIGS = {"llama": LlamaConfig, "qwen2": Qwen2Config, "qwen3": Qwen3Config}
LLAMA3 = {
    "rope_type": "llama3",
    "rope_theta": 50000.0,
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 64,
}
_TEXT = (
    "the a I'm don't we'll He'S 123 4567 3.14 Größe naïve été 中文 日本語 Привет مرحبا हिन्दी 👍🏽 👨‍👩‍👧 ½ ² Ⅷ ٣ ΑΒΓ x_y a.b CamelCase"
    ' \u00a0 \u200b \u2028 \u017f \u01c5 \U0001d4b3 \ufeff \x00 \x7f --- == ... "q" (x) [1] http://a.b/c?d=1&e=2'
    " <|im_end|> <|im_start|> <|im_ <| |>"
)
WORDS = _TEXT.split(" ")
SPACES = (" ", "  ", "   ", "\n", "\n\n", "\t", " \n", "\n ", "", "\r\n", "\r", " \t ")


def texts(count: int, seed: int = 0) -> list[str]:
    """Seeded texts of words, numbers, scripts, white space of all sorts and single code points from all over Unicode."""
    draw = random.Random(seed)

    ranges = ((32, 127), (0xA0, 0x500), (0x500, 0xD7FF), (0x10000, 0x1FFFF))

    def piece() -> str:
        if draw.random() < 0.8:
            return draw.choice(WORDS) + draw.choice(SPACES)
        return chr(draw.randrange(*draw.choice(ranges)))

    return [draw.choice(SPACES) + "".join(piece() for _ in range(draw.randrange(1, 14))) for _ in range(count)]


def tokenizer(pre: str = "gpt-2", merges: int = 0, **more: Any) -> PreTrainedTokenizerFast:
    """Byte-level BPE with llama.cpp's rules `pre`, and as many merges as asked for."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    raw = Tokenizer(models.BPE(vocab={c: i for i, c in enumerate(alphabet)}, merges=[], ignore_merges=KNOWN[pre].ignore_merges))
    raw.pre_tokenizer, raw.decoder = KNOWN[pre].build, decoders.ByteLevel()
    if KNOWN[pre].normalizer:
        raw.normalizer = normalizers.NFC()
    if merges:
        trainer = trainers.BpeTrainer(vocab_size=256 + merges, initial_alphabet=alphabet, show_progress=False)
        raw.train_from_iterator(texts(300, seed=9), trainer)
    raw.add_special_tokens(["<|im_start|>", "<|im_end|>"])
    made = PreTrainedTokenizerFast(tokenizer_object=raw, eos_token="<|im_end|>", pad_token="<|im_end|>", **more)
    made.chat_template = tiny.CHATML
    return made


def qwen2_tokenizer() -> PreTrainedTokenizerBase:
    """Folders of qwen2 models always load with this class."""
    vocab = [*sorted(pre_tokenizers.ByteLevel.alphabet()), "<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    made = Qwen2Tokenizer(vocab={t: i for i, t in enumerate(vocab)}, merges=[], eos_token="<|im_end|>", pad_token="<|im_end|>")
    made.chat_template = tiny.CHATML
    return made


def student(
    folder: Path, family: str, words: PreTrainedTokenizerBase | None = None, **more: Any
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """A random model in `folder`. Norms and biases are random as well, so that a lost or misplaced one is seen."""
    words = words or (qwen2_tokenizer() if family == "qwen2" else tokenizer())
    shape: dict[str, Any] = {
        "vocab_size": len(words),
        "hidden_size": 64,
        "intermediate_size": 96,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": 512,
        "initializer_range": 0.3,
        "eos_token_id": words.eos_token_id,
        "bos_token_id": None,
    }
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(CONFIGS[family](**{**shape, **({"head_dim": 32} if family == "qwen3" else {}), **more}))
    for name, parameter in model.named_parameters():
        if name.endswith("bias") or "norm" in name:
            parameter.data.normal_(1.0 if "norm" in name else 0.0, 0.3)
    model.generation_config.eos_token_id = words.eos_token_id
    model.save_pretrained(folder)
    words.save_pretrained(folder)
    return model.train(False), words


def prompts(count: int, vocabulary: int = 256, seed: int = 1) -> list[list[int]]:
    """Seeded token ids, 3 to 40 of them."""
    draw = random.Random(seed)
    return [[draw.randrange(vocabulary) for _ in range(draw.randrange(3, 40))] for _ in range(count)]

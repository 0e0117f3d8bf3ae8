"""What a GGUF file holds, and which students are refused one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from gguf import GGMLQuantizationType, GGUFReader, TokenType, dequantize, quantize
from safetensors.numpy import load_file
from tests.unit.trainer import exported
from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers
from transformers import GPT2Config, LlamaConfig, PreTrainedConfig, PreTrainedTokenizerFast, Qwen2Config

from distillery_trainer.errors import StageError
from distillery_trainer.export import gguf
from distillery_trainer.export.pretokenizers import KNOWN, for_name, recognise

SMALL: dict[str, Any] = {"vocab_size": 288, "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 1, "num_attention_heads": 4}


@pytest.mark.parametrize(("quantization", "matrices", "head"), [("f16", "F16", "F16"), ("q8_0", "Q8_0", "Q8_0"), ("q4_0", "Q4_0", "Q8_0")])
@pytest.mark.parametrize("tied", [True, False])
def test_types_of_tensors(tmp_path: Path, quantization: str, matrices: str, head: str, tied: bool) -> None:
    """Vectors stay F32; the output head keeps 8 bits in a 4-bit file."""
    exported.student(tmp_path, "llama", tie_word_embeddings=tied)
    gguf.write(tmp_path, tmp_path / "model.gguf", quantization)
    types = {tensor.name: tensor.tensor_type.name for tensor in GGUFReader(tmp_path / "model.gguf").tensors}
    assert {kind for name, kind in types.items() if "norm" in name} == {"F32"}
    assert types["token_embd.weight" if tied else "output.weight"] == head
    assert ("output.weight" in types) is not tied
    assert {kind for name, kind in types.items() if name.startswith("blk") and "norm" not in name} == {matrices}


def test_weights_are_the_grid_of_the_format(tmp_path: Path) -> None:
    """Bit for bit what gguf's own quantizer makes of each row; one matrix of q4_0, one of q8_0."""
    exported.student(tmp_path, "qwen3", tie_word_embeddings=True)
    gguf.write(tmp_path, tmp_path / "model.gguf", "q4_0")
    source = load_file(tmp_path / "model.safetensors")
    tensors = {tensor.name: tensor for tensor in GGUFReader(tmp_path / "model.gguf").tensors}
    for name, key, kind in (
        ("blk.1.ffn_down.weight", "model.layers.1.mlp.down_proj.weight", GGMLQuantizationType.Q4_0),
        ("token_embd.weight", "model.embed_tokens.weight", GGMLQuantizationType.Q8_0),
    ):
        found = dequantize(tensors[name].data, tensors[name].tensor_type)
        np.testing.assert_array_equal(found, dequantize(quantize(source[key], kind), kind))


def test_vocabulary(tmp_path: Path) -> None:
    """Special tokens are control tokens, added words are user-defined, rows beyond the tokenizer are unused; ids that end an answer."""
    words = exported.tokenizer(merges=20)
    words.add_tokens(["<think>"])
    model, _ = exported.student(tmp_path, "llama", words, vocab_size=len(words) + 3)
    model.generation_config.eos_token_id = [words.eos_token_id, 7]
    model.generation_config.save_pretrained(tmp_path)
    gguf.write(tmp_path, tmp_path / "model.gguf", "f16", name="arith")
    fields = {name: field.contents() for name, field in GGUFReader(tmp_path / "model.gguf").fields.items()}
    types = dict(zip(fields["tokenizer.ggml.tokens"], fields["tokenizer.ggml.token_type"], strict=True))
    assert types["<|im_end|>"] == TokenType.CONTROL
    assert types["<think>"] == TokenType.USER_DEFINED
    assert types["a"] == TokenType.NORMAL
    assert list(types.values())[-3:] == [TokenType.UNUSED] * 3
    assert fields["tokenizer.ggml.tokens"][words.eos_token_id] == "<|im_end|>"
    assert fields["tokenizer.ggml.eos_token_id"] == words.eos_token_id
    assert fields["tokenizer.ggml.eot_token_id"] == 7
    assert fields["tokenizer.ggml.add_bos_token"] is False
    assert fields["tokenizer.chat_template"] == words.chat_template
    assert len(fields["tokenizer.ggml.merges"]) == 20
    assert fields["general.name"] == "arith"


def raw(model: Any, **parts: Any) -> PreTrainedTokenizerFast:
    """A tokenizer from its parts; byte-level where not told otherwise."""
    made = Tokenizer(model)
    made.pre_tokenizer = parts.get("pre", pre_tokenizers.ByteLevel(add_prefix_space=False))
    made.decoder = parts.get("decoder", decoders.ByteLevel())
    if "normalizer" in parts:
        made.normalizer = parts["normalizer"]
    made.add_special_tokens([AddedToken("</s>", **parts.get("token", {}))])
    return PreTrainedTokenizerFast(tokenizer_object=made, eos_token=parts.get("eos", "</s>"))


VOCAB = {character: index for index, character in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}
BYTES = models.BPE(vocab=VOCAB, merges=[])


@pytest.mark.parametrize(
    ("config", "tokenizer", "quantization", "told"),
    [
        (GPT2Config(vocab_size=288), raw(BYTES), "f16", "model type 'gpt2' is not one of llama, qwen2, qwen3"),
        (LlamaConfig(**SMALL, hidden_act="gelu"), raw(BYTES), "f16", "hidden_act 'gelu' is not silu"),
        (Qwen2Config(**SMALL, use_sliding_window=True), raw(BYTES), "f16", "sliding-window attention"),
        (
            LlamaConfig(**SMALL, rope_parameters={"rope_type": "yarn", "factor": 4.0, "rope_theta": 1e4}),
            raw(BYTES),
            "f16",
            "rope_type 'yarn' is not one of default, linear, llama3",
        ),
        (
            Qwen2Config(**SMALL, rope_parameters=exported.LLAMA3),
            raw(BYTES),
            "f16",
            "rope_type 'llama3' is not one of default, linear",
        ),
        (LlamaConfig(**{**SMALL, "hidden_size": 40}), raw(BYTES), "q4_0", "the student's hidden_size is 40; use quantization f16"),
        (LlamaConfig(**{**SMALL, "intermediate_size": 100}), raw(BYTES), "q8_0", "intermediate_size is 100"),
        (LlamaConfig(**SMALL), raw(models.WordLevel({"a": 0}, unk_token="a")), "f16", "is not a byte-level BPE \\(WordLevel"),
        (LlamaConfig(**SMALL), raw(models.BPE(vocab=VOCAB, merges=[], byte_fallback=True)), "f16", "is not a byte-level BPE"),
        (LlamaConfig(**SMALL), raw(models.BPE(vocab=VOCAB, merges=[], end_of_word_suffix="</w>")), "f16", "ends of words"),
        (LlamaConfig(**SMALL), raw(BYTES, pre=pre_tokenizers.Whitespace()), "f16", "rules that llama.cpp has no name for"),
        (LlamaConfig(**SMALL), raw(BYTES, pre=pre_tokenizers.ByteLevel(add_prefix_space=True)), "f16", "no name for"),
        (LlamaConfig(**SMALL), raw(BYTES, normalizer=normalizers.Lowercase()), "f16", "no name for"),
        (LlamaConfig(**SMALL), raw(BYTES, eos=None), "f16", "has no eos_token"),
        (LlamaConfig(**SMALL), raw(BYTES, token={"lstrip": True}), "f16", "take in white space or match whole words only, first '</s>'"),
        (LlamaConfig(**{**SMALL, "vocab_size": 200}), raw(BYTES), "f16", "has 257 tokens, more than the model's vocab_size of 200"),
    ],
)
def test_refused(config: PreTrainedConfig, tokenizer: PreTrainedTokenizerFast, quantization: str, told: str) -> None:
    """Before anything is trained; the message says what to use instead."""
    with pytest.raises(StageError, match=told) as caught:
        gguf.check(config, tokenizer, quantization)
    assert caught.value.reason in ("Unsupported", "DoesNotFit")
    assert "; use " in caught.value.message


@pytest.mark.parametrize("name", sorted(KNOWN))
def test_rules_are_recognised(name: str) -> None:
    words = exported.tokenizer(name)
    assert recognise(words.backend_tokenizer) == name
    gguf.check(LlamaConfig(**SMALL), words)


def test_rules_by_name() -> None:
    """What a reader of GGUF files puts back: smollm takes digits apart before it looks at spaces."""
    rules = for_name("smollm")
    assert rules is not None
    assert [piece for piece, _ in rules.pre_tokenize_str("a  12")] == ["a", "ĠĠ", "1", "2"]
    assert for_name("unheard-of") is None

"""What a GGUF file holds, and which students are refused one."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from gguf import GGMLQuantizationType, GGUFReader, TokenType, dequantize, quantize
from safetensors.numpy import load_file
from tests.unit.trainer import exported
from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers
from transformers import (
    AutoModelForCausalLM,
    GPT2Config,
    LlamaConfig,
    MambaConfig,
    MistralConfig,
    PreTrainedConfig,
    PreTrainedTokenizerFast,
    Qwen2Config,
    Qwen3Config,
)

from distillery.api.measure import Export
from distillery_trainer.errors import StageError
from distillery_trainer.export import gguf
from distillery_trainer.export.pretokenizers import KNOWN, for_name, recognise
from distillery_trainer.export.suitable import require

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
    export = Export.model_validate({"name": "q4", "format": "gguf", "quantization": quantization})
    with pytest.raises(StageError, match=told) as caught:
        require(export, bare(config), tokenizer, ())
    assert caught.value.reason in ("Unsupported", "DoesNotFit")
    assert caught.value.message.startswith("spec.exports[q4]: format gguf: ")
    assert "; use " in caught.value.message


def bare(config: PreTrainedConfig) -> Any:
    """A student of this configuration without weights."""
    with torch.device("meta"):
        return AutoModelForCausalLM.from_config(config)


def refused(config: PreTrainedConfig, kind: str, quantization: str, stop_ids: Sequence[int] = ()) -> str:
    """What preflight says of an export."""
    export = Export.model_validate({"name": "edge", "format": kind, "quantization": quantization})
    with pytest.raises(StageError) as caught:
        require(export, bare(config), raw(BYTES), stop_ids)
    return caught.value.message


@pytest.mark.parametrize(
    ("config", "kind", "told"),
    [
        (MistralConfig(**SMALL, sliding_window=8), "gguf", "model type 'mistral' is not one of llama, qwen2, qwen3"),
        (MistralConfig(**SMALL, sliding_window=8), "onnx", "mistral layers with a window need another cache than a graph has"),
        (Qwen2Config(**SMALL, use_sliding_window=True, sliding_window=8, max_window_layers=0), "onnx", "qwen2 layers sliding_attention"),
        (MambaConfig(vocab_size=288, hidden_size=64, num_hidden_layers=1), "onnx", "mamba layers linear_attention"),
        (MambaConfig(vocab_size=288, hidden_size=64, num_hidden_layers=1), "gguf", "model type 'mamba' is not one of"),
    ],
)
def test_what_is_refused_everywhere_is_recommended_nowhere(config: PreTrainedConfig, kind: str, told: str) -> None:
    message = refused(config, kind, "f16" if kind == "gguf" else "fp32")
    assert told in message
    assert message.endswith("; use format safetensors for this model")


def test_mistral_without_a_window_has_a_graph() -> None:
    assert refused(MistralConfig(**SMALL, sliding_window=None), "gguf", "f16").endswith("; use format safetensors or onnx for this model")


def test_tensors_that_llama_cpp_does_not_take_are_found_by_their_names() -> None:
    """Before training; the file itself would be refused with an empty message (test_gguf_parity.py has its reason)."""
    told = refused(Qwen3Config(**SMALL, head_dim=16, attention_bias=True), "gguf", "f16")
    assert "llama.cpp has no place for tensor 'model.layers.0.self_attn." in told
    assert "bias' in a qwen3 model" in told


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("family", sorted(exported.CONFIGS))
def test_usual_tensors_are_taken(family: str, tied: bool) -> None:
    config = exported.CONFIGS[family](**SMALL, tie_word_embeddings=tied)
    export = Export.model_validate({"name": "edge", "format": "gguf", "quantization": "f16"})
    require(export, bare(config), raw(BYTES), (256,))


def test_more_ends_than_a_file_holds_are_told_before_training() -> None:
    assert "4 ids end an answer (256, 1, 2, 3), and a file holds 3" in refused(LlamaConfig(**SMALL), "gguf", "f16", (1, 2, 3))


@pytest.mark.parametrize(
    ("quantization", "weight", "fits"),
    [("f16", 65504.0, True), ("f16", 1e5, False), ("q8_0", 1e5, True), ("q8_0", 1e7, False), ("q4_0", 1e5, True), ("q4_0", 6e5, False)],
)
def test_no_file_with_infinity_is_written(tmp_path: Path, quantization: str, weight: float, fits: bool) -> None:
    model, _ = exported.student(tmp_path, "llama")
    model.model.layers[1].mlp.up_proj.weight.data[3, 5] = weight
    model.save_pretrained(tmp_path)
    if fits:
        gguf.write(tmp_path, tmp_path / "model.gguf", quantization)
        tensors = {tensor.name: tensor for tensor in GGUFReader(tmp_path / "model.gguf").tensors}
        tensor = tensors["blk.1.ffn_up.weight"]
        assert np.isfinite(dequantize(tensor.data, tensor.tensor_type)).all()
        return
    with pytest.raises(StageError, match=r": lower training\.learningRate") as caught:
        gguf.write(tmp_path, tmp_path / "model.gguf", quantization)
    assert caught.value.reason == "DoesNotFit"
    assert f"up_proj.weight' holds {weight:.4g}, and {quantization} reaches to " in caught.value.message


@pytest.mark.parametrize("name", sorted(KNOWN))
def test_rules_are_recognised(name: str) -> None:
    words = exported.tokenizer(name)
    assert recognise(words.backend_tokenizer) == name
    require(Export.model_validate({"name": "edge", "format": "gguf", "quantization": "f16"}), bare(LlamaConfig(**SMALL)), words, ())


def test_rules_by_name() -> None:
    """What a reader of GGUF files puts back: smollm takes digits apart before it looks at spaces."""
    rules = for_name("smollm")
    assert rules is not None
    assert [piece for piece, _ in rules.pre_tokenize_str("a  12")] == ["a", "ĠĠ", "1", "2"]
    assert for_name("unheard-of") is None

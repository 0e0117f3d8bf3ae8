"""A model in Hugging Face layout as one GGUF file for llama.cpp: F16, Q8_0 or Q4_0.

Which tensor gets which type:
- one-dimensional tensors (norms, biases) and the rope divisors stay F32: they are small, and llama.cpp wants them so;
- f16: every matrix F16;
- q8_0: every matrix Q8_0;
- q4_0: every matrix Q4_0, but the output head (the token embedding, where it is tied to it) Q8_0: errors there go into the logits directly,
  and llama-quantize keeps it above 4 bits as well.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import numpy.typing as npt
import torch
from safetensors import safe_open
from transformers import AutoConfig, AutoTokenizer, PreTrainedConfig, PreTrainedTokenizerBase

from . import architecture, vocabulary

Array = npt.NDArray[Any]
_FILE_TYPES = {"f16": gguf.LlamaFileType.MOSTLY_F16, "q8_0": gguf.LlamaFileType.MOSTLY_Q8_0, "q4_0": gguf.LlamaFileType.MOSTLY_Q4_0}
_MATRICES = {
    "f16": gguf.GGMLQuantizationType.F16,
    "q8_0": gguf.GGMLQuantizationType.Q8_0,
    "q4_0": gguf.GGMLQuantizationType.Q4_0,
}


def check(config: PreTrainedConfig, tokenizer: PreTrainedTokenizerBase, quantization: str = "f16") -> None:
    """StageError (Unsupported, DoesNotFit) where a student of this config and tokenizer could not be written faithfully."""
    architecture.check(config)
    architecture.check_blocks(config, quantization)
    vocabulary.read(tokenizer, config.vocab_size)


def write(model: Path, file: Path, quantization: str, name: str = "student", permute: bool = True) -> None:
    """Write the model in folder `model` (safetensors) to `file`. `permute=False` is the error that the parity tests must see."""
    config = AutoConfig.from_pretrained(model)
    tokenizer = AutoTokenizer.from_pretrained(model)
    family = architecture.check(config)
    architecture.check_blocks(config, quantization)
    words = vocabulary.read(tokenizer, config.vocab_size, _stop_ids(model))
    writer = gguf.GGUFWriter(file, gguf.MODEL_ARCH_NAMES[family.arch])
    writer.add_type("model")
    writer.add_name(name)
    writer.add_file_type(_FILE_TYPES[quantization])
    writer.add_quantization_version(gguf.GGML_QUANT_VERSION)
    architecture.describe(writer, config)
    words.write(writer)
    names = gguf.get_tensor_name_map(family.arch, config.num_hidden_layers)
    head = "token_embd.weight" if config.tie_word_embeddings else "output.weight"
    for source, tensor in _weights(model, config):
        target = names.get_name(source, try_suffixes=(".weight", ".bias"))
        if target is None:
            raise architecture.unsupported(f"tensor {source!r} of the student has no place in a {config.model_type} file")
        if family.rotates_pairs and permute:
            tensor = _pairwise(source, tensor, config)
        _add(writer, target, tensor, quantization, target == head)
    divisors = architecture.rope_divisors(config)
    if divisors is not None:
        writer.add_tensor("rope_freqs.weight", divisors)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def _stop_ids(model: Path) -> list[int]:
    file = model / "generation_config.json"
    eos = json.loads(file.read_text()).get("eos_token_id") if file.exists() else None
    return [eos] if isinstance(eos, int) else list(eos or ())


def _weights(model: Path, config: PreTrainedConfig) -> Iterator[tuple[str, npt.NDArray[np.float32]]]:
    """Name and values of each tensor, one at a time, without what a file does not hold: a tied head, tables of rotary frequencies."""
    for file in sorted(model.glob("*.safetensors")):
        with safe_open(file, framework="pt") as tensors:
            for name in tensors.keys():  # noqa: SIM118  (safe_open is no mapping)
                if name.endswith("rotary_emb.inv_freq") or (name == "lm_head.weight" and config.tie_word_embeddings):
                    continue
                yield name, tensors.get_tensor(name).to(torch.float32).numpy()


def _pairwise(source: str, tensor: Array, config: PreTrainedConfig) -> Array:
    """Reorder the rows of query and key projections so that dimensions i and i + d/2 of a head, which turn together, become neighbours.

    `tensor` is [heads * head_dim, ...]; within a head, row h * d/2 + i goes to 2 * i + h, for h in 0, 1.
    """
    module = source.rsplit(".", 2)[-2]
    heads = {"q_proj": config.num_attention_heads, "k_proj": config.num_key_value_heads}.get(module)
    if heads is None:
        return tensor
    halves = tensor.reshape(heads, 2, tensor.shape[0] // heads // 2, *tensor.shape[1:])
    return np.ascontiguousarray(halves.swapaxes(1, 2)).reshape(tensor.shape)


def _add(writer: gguf.GGUFWriter, name: str, tensor: Array, quantization: str, is_head: bool) -> None:
    if tensor.ndim == 1:
        writer.add_tensor(name, tensor)
        return
    kind = gguf.GGMLQuantizationType.Q8_0 if quantization == "q4_0" and is_head else _MATRICES[quantization]
    data = gguf.quants.quantize(tensor, kind)
    writer.add_tensor(name, data, raw_dtype=kind)

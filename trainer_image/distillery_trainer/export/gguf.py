"""A model in Hugging Face layout as one GGUF file for llama.cpp: F16, Q8_0 or Q4_0.

Which tensor gets which type:
- one-dimensional tensors (norms, biases) and the rope divisors stay F32: they are small, and llama.cpp wants them so;
- f16: every matrix F16;
- q8_0: every matrix Q8_0;
- q4_0: every matrix Q4_0, but the output head (the token embedding, where it is tied to it) Q8_0: errors there go into the logits directly,
  and llama-quantize keeps it above 4 bits as well.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import numpy.typing as npt
import torch
from safetensors import safe_open
from transformers import AutoConfig, AutoTokenizer, GenerationConfig, PreTrainedConfig, PreTrainedTokenizerBase

from distillery.api import reasons
from distillery_trainer.errors import StageError
from distillery_trainer.models.endings import end_ids

from . import architecture, vocabulary

Array = npt.NDArray[Any]
_FILE_TYPES = {"f16": gguf.LlamaFileType.MOSTLY_F16, "q8_0": gguf.LlamaFileType.MOSTLY_Q8_0, "q4_0": gguf.LlamaFileType.MOSTLY_Q4_0}
#: Scales are F16 numbers, and stand for an eighth (Q4_0) or a 127th (Q8_0) of a block's largest weight.
_LARGEST = {"f16": 65504.0, "q8_0": 127 * 65504.0, "q4_0": 8 * 65504.0}
_MATRICES = {
    "f16": gguf.GGMLQuantizationType.F16,
    "q8_0": gguf.GGMLQuantizationType.Q8_0,
    "q4_0": gguf.GGMLQuantizationType.Q4_0,
}


def check(
    config: PreTrainedConfig, tokenizer: PreTrainedTokenizerBase, quantization: str, stop_ids: Collection[int], tensors: Collection[str]
) -> None:
    """StageError (Unsupported, DoesNotFit) where a student with this config, tokenizer and tensors could not be written faithfully."""
    architecture.check(config)
    architecture.check_blocks(config, quantization)
    architecture.target_names((name for name in tensors if not _is_table(name)), config)
    vocabulary.read(tokenizer, config.vocab_size, stop_ids)


def write(model: Path, file: Path, quantization: str, name: str = "student", permute: bool = True) -> None:
    """Write the model in folder `model` (safetensors) to `file`. `permute=False` is the error that the parity tests must see."""
    config = AutoConfig.from_pretrained(model)
    tokenizer = AutoTokenizer.from_pretrained(model)
    family = architecture.check(config)
    architecture.check_blocks(config, quantization)
    words = vocabulary.read(tokenizer, config.vocab_size, end_ids(GenerationConfig.from_pretrained(model)))
    writer = gguf.GGUFWriter(file, gguf.MODEL_ARCH_NAMES[family.arch])
    writer.add_type("model")
    writer.add_name(name)
    writer.add_file_type(_FILE_TYPES[quantization])
    writer.add_quantization_version(gguf.GGML_QUANT_VERSION)
    architecture.describe(writer, config)
    words.write(writer)
    files = _files(model)
    names = architecture.target_names(files, config)
    # the weights decide, not what config.json says of them
    head = "output.weight" if "output.weight" in names.values() else "token_embd.weight"
    for source, tensor in _weights(files):
        if family.rotates_pairs and permute:
            tensor = _pairwise(source, tensor, config)
        _require_finite(source, tensor, quantization)
        _add(writer, names[source], tensor, quantization, names[source] == head)
    divisors = architecture.rope_divisors(config)
    if divisors is not None:
        writer.add_tensor("rope_freqs.weight", divisors)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def _is_table(name: str) -> bool:
    """Rotary frequencies, which llama.cpp makes by itself."""
    return name.endswith("rotary_emb.inv_freq")


def _files(model: Path) -> dict[str, Path]:
    """The file that each tensor is in."""
    found: dict[str, Path] = {}
    for file in sorted(model.glob("*.safetensors")):
        with safe_open(file, framework="pt") as tensors:
            found.update({name: file for name in tensors.keys() if not _is_table(name)})  # noqa: SIM118  (safe_open is no mapping)
    return found


def _weights(files: Mapping[str, Path]) -> Iterator[tuple[str, npt.NDArray[np.float32]]]:
    """Name and values of each tensor, one at a time."""
    for name, file in files.items():
        with safe_open(file, framework="pt") as tensors:
            yield name, tensors.get_tensor(name).to(torch.float32).numpy()


def _require_finite(name: str, tensor: Array, quantization: str) -> None:
    """StageError (DoesNotFit) where a weight, or the scale of its block, would be infinite in the file."""
    largest = float(np.abs(tensor).max(initial=0.0))
    limit = _LARGEST[quantization] if tensor.ndim > 1 else float(np.finfo(np.float32).max)
    if not largest <= limit:
        text = f"format gguf: tensor {name!r} holds {largest:.4g}, and {quantization} reaches to {limit:.4g}"
        remedy = "lower training.learningRate" + (", or use format safetensors for this model" if math.isfinite(largest) else "")
        raise StageError(reasons.DOES_NOT_FIT, f"{text}: {remedy}")


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

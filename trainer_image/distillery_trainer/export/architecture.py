"""The model families that a GGUF file can hold here, and their hyperparameters as llama.cpp reads them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import NamedTuple

import gguf
import numpy as np
import numpy.typing as npt
from transformers import PreTrainedConfig

from distillery.api import reasons
from distillery_trainer.errors import StageError
from distillery_trainer.models.positions import position_limit

#: Q8_0 and Q4_0 keep a scale for each run of 32 weights of a row.
BLOCK = 32
#: What llama.cpp loads of every family here, in each block and beside the blocks; it refuses a file with less, or with more.
_BLOCK = ("attn_norm", "attn_q", "attn_k", "attn_v", "attn_output", "ffn_norm", "ffn_gate", "ffn_up", "ffn_down")
_REST = ("token_embd.weight", "output_norm.weight")


class Family(NamedTuple):
    """How a family differs. `rotates_pairs`: llama.cpp turns neighbouring dimensions together, where Hugging Face turns halves.

    `needs` and `may_have` are tensors of a block that llama.cpp loads as well. `free_heads`: heads may have any width.
    """

    arch: gguf.MODEL_ARCH
    rotates_pairs: bool = False
    rope_types: tuple[str, ...] = ("default", "linear")
    needs: tuple[str, ...] = ()
    may_have: tuple[str, ...] = ()
    free_heads: bool = True


_QKV_BIAS = ("attn_q.bias", "attn_k.bias", "attn_v.bias")
_MLP_BIAS = ("ffn_gate.bias", "ffn_up.bias", "ffn_down.bias")
FAMILIES: Mapping[str, Family] = {
    "llama": Family(
        gguf.MODEL_ARCH.LLAMA,
        rotates_pairs=True,
        rope_types=("default", "linear", "llama3"),
        may_have=(*_QKV_BIAS, "attn_output.bias", *_MLP_BIAS),
    ),
    "qwen2": Family(gguf.MODEL_ARCH.QWEN2, needs=_QKV_BIAS, free_heads=False),
    "qwen3": Family(gguf.MODEL_ARCH.QWEN3, needs=("attn_q_norm.weight", "attn_k_norm.weight")),
}


def unsupported(text: str) -> StageError:
    """The refusal of a model that a GGUF file would not hold faithfully."""
    return StageError(reasons.UNSUPPORTED, f"format gguf: {text}")


def head_dim(config: PreTrainedConfig) -> int:
    """Width of one attention head."""
    return int(getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads)


def rope_type(config: PreTrainedConfig) -> str:
    """How positions are scaled; `default` is not at all."""
    return str((config.rope_parameters or {}).get("rope_type", "default"))


def check(config: PreTrainedConfig) -> Family:
    """The family of a model. StageError (Unsupported) where llama.cpp would compute something else than transformers, or nothing."""
    for reason in _refusals(config):
        raise unsupported(reason)
    return FAMILIES[config.model_type]


def check_blocks(config: PreTrainedConfig, quantization: str) -> None:
    """StageError (DoesNotFit) where a row of weights is not made of whole blocks."""
    widths = {
        "hidden_size": config.hidden_size,
        "intermediate_size": config.intermediate_size,
        "num_attention_heads x head_dim": config.num_attention_heads * head_dim(config),
    }
    for name, width in widths.items():
        if quantization != "f16" and width % BLOCK:
            raise StageError(
                reasons.DOES_NOT_FIT,
                f"format gguf: {quantization} needs rows that are multiples of {BLOCK}, and the student's {name} is {width};"
                " use quantization f16, or choose other sizes for student.scratch",
            )


def _refusals(config: PreTrainedConfig) -> Iterator[str]:
    kind = config.model_type
    if kind not in FAMILIES:
        yield f"model type {kind!r} is not one of {', '.join(FAMILIES)}"
        return
    if getattr(config, "hidden_act", "silu") != "silu":
        yield f"hidden_act {config.hidden_act!r} is not silu"
    if getattr(config, "use_sliding_window", False):
        yield "sliding-window attention is on (use_sliding_window)"
    if rope_type(config) not in FAMILIES[kind].rope_types:
        yield f"rope_type {rope_type(config)!r} is not one of {', '.join(FAMILIES[kind].rope_types)}"
    if (config.rope_parameters or {}).get("partial_rotary_factor", 1.0) != 1.0:
        yield "partial_rotary_factor is not 1"
    heads = config.num_attention_heads * head_dim(config)
    if not FAMILIES[kind].free_heads and heads != config.hidden_size:
        yield f"llama.cpp wants heads of a {kind} model to be as wide as hidden_size together, and they are {heads} of {config.hidden_size}"


def target_names(names: Iterable[str], config: PreTrainedConfig) -> dict[str, str]:
    """Each tensor's name in a file. StageError (Unsupported) where llama.cpp would refuse it, or misses one."""
    kind, family = config.model_type, FAMILIES[config.model_type]
    table = gguf.get_tensor_name_map(family.arch, config.num_hidden_layers)
    blocks = range(config.num_hidden_layers)
    needed = {*_REST, *(f"blk.{n}.{name}" for n in blocks for name in (*(f"{each}.weight" for each in _BLOCK), *family.needs))}
    taken = {*needed, "output.weight", *(f"blk.{n}.{name}" for n in blocks for name in family.may_have)}
    found: dict[str, str] = {}
    for name in names:
        target = table.get_name(name, try_suffixes=(".weight", ".bias"))
        if target is None or target not in taken:
            raise unsupported(f"llama.cpp has no place for tensor {name!r} in a {kind} model")
        found[name] = target
    missing = sorted(needed - set(found.values()))
    if missing:
        raise unsupported(f"llama.cpp wants tensor {missing[0]!r} in a {kind} model, and this one has none")
    return found


def describe(writer: gguf.GGUFWriter, config: PreTrainedConfig) -> None:
    """Write the hyperparameters."""
    rope = config.rope_parameters or {}
    width = head_dim(config)
    writer.add_context_length(position_limit(config))
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_key_length(width)
    writer.add_value_length(width)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_vocab_size(config.vocab_size)
    writer.add_rope_dimension_count(width)
    writer.add_rope_freq_base(rope.get("rope_theta", 10000.0))
    if rope_type(config) == "linear":
        writer.add_rope_scaling_type(gguf.RopeScalingType.LINEAR)
        writer.add_rope_scaling_factor(rope["factor"])


def rope_divisors(config: PreTrainedConfig) -> npt.NDArray[np.float32] | None:
    """What each rotary frequency is divided by, [head_dim / 2], for the llama3 scaling; None for the others."""
    if rope_type(config) != "llama3":
        return None
    from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

    scaled, _ = ROPE_INIT_FUNCTIONS["llama3"](config, "cpu")
    width = head_dim(config)
    plain = config.rope_parameters["rope_theta"] ** -(np.arange(0, width, 2, dtype=np.float64) / width)
    return np.asarray(plain / scaled.double().numpy(), dtype=np.float32)

"""Whether a format can hold a student, asked before anything is trained; each format has its check here."""

from __future__ import annotations

from collections.abc import Callable, Collection

from transformers import DynamicCache, PreTrainedConfig, PreTrainedModel, PreTrainedTokenizerBase
from transformers.cache_utils import DynamicLayer

from distillery.api import reasons
from distillery.api.measure import QUANTIZATIONS, Export
from distillery_trainer.errors import StageError

Check = Callable[[str, PreTrainedModel, PreTrainedTokenizerBase, Collection[int]], None]


def require(export: Export, student: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, stop_ids: Collection[int]) -> None:
    """StageError where the format cannot hold this student (its weights are not looked at), with formats that can."""
    try:
        _CHECKS[export.format](export.quantization, student, tokenizer, stop_ids)
    except StageError as error:
        others = [name for name in _CHECKS if name != export.format and _passes(name, student, tokenizer, stop_ids)]
        instead = f"; use format {' or '.join(others)} for this model" if error.reason == reasons.UNSUPPORTED and others else ""
        raise StageError(error.reason, f"spec.exports[{export.name}]: {error.message}{instead}") from error


def _passes(name: str, student: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, stop_ids: Collection[int]) -> bool:
    try:
        _CHECKS[name](QUANTIZATIONS[name][0], student, tokenizer, stop_ids)
    except StageError:
        return False
    return True


def _gguf(quantization: str, student: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, stop_ids: Collection[int]) -> None:
    from . import gguf

    names = set(student.state_dict())
    if student.config.tie_word_embeddings:
        names.discard("lm_head.weight")
    gguf.check(student.config, tokenizer, quantization, stop_ids, names)
    odd = other_caches(student.config)
    if odd:
        raise StageError(reasons.UNSUPPORTED, f"format gguf: layers of this model do not see all that was read ({', '.join(odd)})")


def other_caches(config: PreTrainedConfig) -> list[str]:
    """What layers of this model keep that is not keys and values of all that was read, by the name of their cache."""
    return sorted({type(layer).__name__ for layer in DynamicCache(config=config).layers if type(layer) is not DynamicLayer})


def onnx_refusal(config: PreTrainedConfig) -> str | None:
    """Why a graph of this model could not be used, or would compute something else; None where it can be.

    The graph's inputs are keys and values of all that was read. Sliding windows, state spaces and convolutions keep something else.
    """
    odd = other_caches(config)
    kinds = sorted(set(getattr(config, "layer_types", None) or ()) - {"full_attention"})
    if odd:
        return f"{config.model_type} layers {', '.join(kinds) or 'with a window'} need another cache than a graph has ({', '.join(odd)})"
    if config.model_type == "falcon" and config.alibi:
        return "falcon with alibi multiplies its positions in bfloat16, which ONNX Runtime cannot on a CPU"
    return None


def _onnx(_: str, student: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, stop_ids: Collection[int]) -> None:
    refused = onnx_refusal(student.config)
    if refused:
        raise StageError(reasons.UNSUPPORTED, f"format onnx: {refused}")


def _safetensors(_: str, student: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, stop_ids: Collection[int]) -> None:
    """Holds what transformers can save, which the rehearsal of saving tries."""


#: In the order in which they are recommended.
_CHECKS: dict[str, Check] = {"safetensors": _safetensors, "onnx": _onnx, "gguf": _gguf}

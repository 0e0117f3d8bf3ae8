"""Preflight of folders as people publish them: what would fail after dear stages is refused, what is merely odd passes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.unit.trainer import tiny
from tests.unit.trainer.odd import add_adapter, contradicting, edit, export, family


def odd(change: Callable[[Path, dict[str, Any]], None], root: Path) -> tuple[int, tiny.Place]:
    """Preflight of a small job that `change` has made odd."""
    tiny.save(root / "teacher", tiny.model(), tiny.tokenizer())
    tiny.lines(root / "train.jsonl", tiny.PAIRS)
    spec = tiny.spec(root, training={"maxSequenceLength": 128})
    change(root, spec)
    place = tiny.Place(root, spec)
    return place.execute("preflight"), place


def _config(**fields: Any) -> Callable[[Path, dict[str, Any]], None]:
    return lambda root, _: edit(root / "teacher", "config.json", **fields)


def _mistral(root: Path, spec: dict[str, Any]) -> None:
    tiny.save(root / "teacher", family("mistral", sliding_window=8), tiny.tokenizer())
    spec["exports"] = [export("onnx", "fp32")]


def _biased(root: Path, spec: dict[str, Any]) -> None:
    tiny.save(root / "teacher", tiny.model("qwen3", attention_bias=True), tiny.tokenizer())
    spec["exports"] = [export("gguf", "f16")]


def _wide_heads(root: Path, spec: dict[str, Any]) -> None:
    """Other families may have heads of any width."""
    tiny.save(root / "teacher", family("qwen2", head_dim=32), tiny.tokenizer())
    spec["exports"] = [export("gguf", "f16")]


def _positions_in_halves(root: Path, spec: dict[str, Any]) -> None:
    tiny.save(root / "teacher", family("falcon", alibi=True, new_decoder_architecture=False), tiny.tokenizer())
    spec["exports"] = [export("onnx", "fp32")]


def _many_ends(root: Path, spec: dict[str, Any]) -> None:
    edit(root / "teacher", "generation_config.json", eos_token_id=[0, 1, 5, 6])
    spec["exports"] = [export("gguf", "f16")]


def _adapter_alone(root: Path, _: dict[str, Any]) -> None:
    add_adapter(root / "teacher")
    (root / "teacher/model.safetensors").unlink()


def _templates(root: Path, _: dict[str, Any]) -> None:
    (root / "teacher/chat_template.jinja").unlink()
    edit(root / "teacher", "tokenizer_config.json", chat_template=[{"name": "rag", "template": tiny.CHATML}])


def _other_words(root: Path, _: dict[str, Any]) -> None:
    tiny.save(root / "teacher", tiny.model(vocab=300), tiny.tokenizer(size=320))


def _no_layer_with_keys(root: Path, _: dict[str, Any]) -> None:
    tiny.save(root / "teacher", family("qwen3_5_text"), tiny.tokenizer())


def _layers_by_number(root: Path, _: dict[str, Any]) -> None:
    """RWKV divides by the number of layers less one when it is made."""
    tiny.save(root / "teacher", family("rwkv", attention_hidden_size=64), tiny.tokenizer())


def _wrong_targets(_: Path, spec: dict[str, Any]) -> None:
    spec["student"]["lora"] = {"rank": 2, "alpha": 4, "targetModules": ["nonsense"]}


def _quantized_student(root: Path, spec: dict[str, Any]) -> None:
    tiny.save(root / "student", tiny.model(), tiny.tokenizer())
    edit(root / "student", "config.json", quantization_config={"quant_method": "gptq", "bits": 4})
    spec["student"] = {"model": {"uri": f"file://{root}/student"}}


REFUSED: dict[str, tuple[Callable[[Path, dict[str, Any]], None], str, str]] = {
    "window and a graph": (_mistral, "Unsupported", "spec.exports[edge]: format onnx: mistral layers"),
    "biases that llama.cpp has no place for": (_biased, "Unsupported", "spec.exports[edge]: format gguf: llama.cpp has no place"),
    "heads that llama.cpp wants narrower": (_wide_heads, "Unsupported", "heads of a qwen2 model to be as wide as hidden_size"),
    "positions that the runtime cannot multiply": (_positions_in_halves, "Unsupported", "format onnx: falcon with alibi"),
    "more ends than a file holds": (_many_ends, "Unsupported", "5 ids end an answer (2, 0, 1, 5, 6), and a file holds 3"),
    "adapter alone": (_adapter_alone, "ModelUnreadable", "is an adapter without its model: merge it into its base first"),
    "several templates": (_templates, "BadInput", "data.chatTemplate: the teacher has the chat templates rag"),
    "tokenizer of another model": (_other_words, "TokenizerMismatch", "its embedding has 300 rows"),
    "vocabulary of another model": (_config(vocab_size=330), "ModelUnreadable", "is [320, 64] in the files and [330, 64] by config.json"),
    "padding beyond the vocabulary": (_config(pad_token_id=100000), "ModelUnreadable", "no model can be made of its config.json"),
    "precision auto": (_config(torch_dtype="auto"), "ModelUnreadable", "torch_dtype 'auto' of its config.json is no precision"),
    "unknown positions": (_config(rope_parameters={"rope_type": "su", "rope_theta": 1e4}), "ModelUnreadable", "'su'"),
    "no cache of keys": (_no_layer_with_keys, "Unsupported", "qwen3_5_text cannot write answers here"),
    "layers that cannot be cut": (_layers_by_number, "Unsupported", "spec.student.fromTeacher: layers [0] of a rwkv model make no model"),
    "adapters nowhere": (_wrong_targets, "BadInput", "spec.student.lora.targetModules: ['nonsense']"),
    "quantized student": (_quantized_student, "Unsupported", "spec.student.model: its weights are quantized (gptq)"),
    "layers of a quantized teacher": (
        _config(quantization_config={"quant_method": "bitsandbytes", "load_in_4bit": True}),
        "Unsupported",
        "spec.student.fromTeacher: its weights are quantized (bitsandbytes)",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_would_fail_after_dear_stages_is_told_before_them(tmp_path: Path, name: str) -> None:
    change, reason, told = REFUSED[name]
    code, place = odd(change, tmp_path)
    assert code == 64, place.result().message
    assert place.result().reason == reason, place.result().message
    assert told in place.result().message


def _idle_settings(root: Path, _: dict[str, Any]) -> None:
    edit(root / "teacher", "generation_config.json", temperature=0.9, top_p=0.6, do_sample=False, pad_token_id=-1)


def _no_generation_config(root: Path, _: dict[str, Any]) -> None:
    (root / "teacher/generation_config.json").unlink()


def _many_heads_one_key(root: Path, spec: dict[str, Any]) -> None:
    tiny.save(root / "teacher", family("qwen3", head_dim=32, num_key_value_heads=1), tiny.tokenizer())
    spec["exports"] = [export("gguf", "q8_0")]


def _state_space(root: Path, _: dict[str, Any]) -> None:
    tiny.save(root / "teacher", family("mamba"), tiny.tokenizer())


def _own_head(root: Path, _: dict[str, Any]) -> None:
    contradicting(root / "teacher")


def _adapters(_: Path, spec: dict[str, Any]) -> None:
    spec["student"]["lora"] = {"rank": 2, "alpha": 4}


ODD_BUT_RIGHT: dict[str, Callable[[Path, dict[str, Any]], None]] = {
    "settings of sampling beside greedy": _idle_settings,
    "no generation config": _no_generation_config,
    "old names of positions": _config(rope_parameters=None, rope_theta=5000.0, rope_scaling={"type": "linear", "factor": 2.0}),
    "no scaling of positions": _config(rope_parameters=None, rope_theta=5000.0, rope_scaling=None),
    "heads wider than the state, one key": _many_heads_one_key,
    "half precision": lambda root, _: tiny.model().to(torch.bfloat16).save_pretrained(root / "teacher"),
    "state space": _state_space,
    "a head of its own": _own_head,
    "adapters": _adapters,
}


@pytest.mark.parametrize("name", ODD_BUT_RIGHT)
def test_what_is_odd_but_right_passes(tmp_path: Path, name: str) -> None:
    code, place = odd(ODD_BUT_RIGHT[name], tmp_path)
    assert code == 0, place.result().message
    assert place.result().hashes

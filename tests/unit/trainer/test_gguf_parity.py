"""llama.cpp computes what transformers computes, from the file that we wrote: logits, token ids, chat prompts."""

from __future__ import annotations

import json
import unicodedata
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.unit.trainer import exported
from transformers import AutoModelForCausalLM

from distillery_trainer.errors import StageError
from distillery_trainer.export import architecture, gguf
from distillery_trainer.export.llama_cpp import LlamaCpp

#: Nats. F16 rounds weights and, in llama.cpp on a CPU, activations; random weights of this size make 0.005 to 0.06 of it.
CLOSE, WRONG = 0.1, 0.5


def divergence(file: Path, model: Any) -> float:
    """Largest difference of the next token's log probability to torch's fp32, over the ten likeliest tokens of some prompts."""
    worst = 0.0
    with LlamaCpp(file, context=64) as runtime:
        for prompt in exported.prompts(6):
            with torch.no_grad():
                wanted = model(torch.tensor([prompt])).logits[0, -1].log_softmax(-1)
            found = runtime.next_logprobs(prompt, top=10)
            worst = max(worst, *(abs(float(wanted[token]) - value) for token, value in found.items()))
    return worst


@pytest.mark.parametrize(
    ("family", "more"),
    [
        ("llama", {"tie_word_embeddings": True}),
        ("llama", {"tie_word_embeddings": False, "attention_bias": True, "mlp_bias": True}),
        ("llama", {"head_dim": 32, "num_key_value_heads": 4}),
        ("llama", {"rope_parameters": exported.LLAMA3}),
        ("llama", {"rope_parameters": {"rope_type": "linear", "factor": 4.0, "rope_theta": 10000.0}}),
        ("qwen2", {"tie_word_embeddings": True}),
        ("qwen2", {"tie_word_embeddings": False, "vocab_size": 288}),
        ("qwen3", {"tie_word_embeddings": True}),
        ("qwen3", {"tie_word_embeddings": False}),
    ],
)
def test_llama_cpp_gives_the_same_logits(tmp_path: Path, family: str, more: dict[str, Any]) -> None:
    model, _ = exported.student(tmp_path, family, **more)
    gguf.write(tmp_path, tmp_path / "model.gguf", "f16")
    assert divergence(tmp_path / "model.gguf", model) < CLOSE


def test_a_file_without_the_permutation_fails(tmp_path: Path) -> None:
    """Negative control: such a file loads without a word, and answers wrong."""
    model, _ = exported.student(tmp_path, "llama")
    gguf.write(tmp_path, tmp_path / "model.gguf", "f16", permute=False)
    assert divergence(tmp_path / "model.gguf", model) > WRONG


def test_quantized_file_computes_with_its_own_weights(tmp_path: Path) -> None:
    """Q8_0 against torch with the weights that the file holds: what is left is llama.cpp's rounding of activations to 8 bits."""
    from gguf import GGUFReader, dequantize

    exported.student(tmp_path, "qwen3")
    gguf.write(tmp_path, tmp_path / "model.gguf", "q8_0")
    names = {"token_embd": "model.embed_tokens", "output": "lm_head", "blk": "model.layers", "attn_output": "self_attn.o_proj"}
    parts = {"attn_q": "self_attn.q_proj", "attn_k": "self_attn.k_proj", "attn_v": "self_attn.v_proj"}
    parts |= {f"ffn_{name}": f"mlp.{name}_proj" for name in ("gate", "up", "down")}
    model = AutoModelForCausalLM.from_pretrained(tmp_path, dtype=torch.float32)
    state = model.state_dict()
    for tensor in GGUFReader(tmp_path / "model.gguf").tensors:
        name = ".".join({**names, **parts}.get(part, part) for part in tensor.name.split("."))
        if tensor.tensor_type.name == "Q8_0":
            state[name].copy_(torch.from_numpy(dequantize(tensor.data, tensor.tensor_type).copy()))
    assert divergence(tmp_path / "model.gguf", model) < 0.3


def test_answers_are_torchs_where_the_choice_is_clear(tmp_path: Path) -> None:
    """Greedy answers in the order of the prompts; they may part only where two tokens are as good as equal."""
    from distillery_trainer.models.generate import generate

    model, words = exported.student(tmp_path, "llama")
    gguf.write(tmp_path, tmp_path / "model.gguf", "f16")
    prompts, heard = exported.prompts(10), []
    with LlamaCpp(tmp_path / "model.gguf", context=80, slots=2) as runtime:
        found = runtime.answer(prompts, 12, heard.append)
    assert heard == [8, 10]
    for prompt, ours, theirs in zip(prompts, found, generate(model, words, prompts, 12, 10), strict=True):
        if ours != theirs:
            same = next(i for i, (a, b) in enumerate(zip(ours, theirs, strict=False)) if a != b)
            with torch.no_grad():
                best = model(torch.tensor([prompt + ours[:same]])).logits[0, -1].topk(2).values
            assert float(best[0] - best[1]) < CLOSE


@pytest.mark.parametrize("pre", ["gpt-2", "smollm", "llama-bpe", "qwen2"])
def test_token_ids_are_the_same(tmp_path: Path, pre: str) -> None:
    """On text that is hard to cut; for qwen2 in the normal form NFC, which llama.cpp does not make."""
    words = exported.tokenizer(pre, merges=700)
    exported.student(tmp_path, "llama", words)
    gguf.write(tmp_path, tmp_path / "model.gguf", "q8_0")
    texts = exported.texts(250)
    texts = [unicodedata.normalize("NFC", text) for text in texts] if pre == "qwen2" else texts
    with LlamaCpp(tmp_path / "model.gguf", context=64, slots=1) as runtime:
        assert [text for text in texts if runtime.tokenize(text) != words(text).input_ids] == []


def test_bytes_alone_and_added_bos(tmp_path: Path) -> None:
    """A vocabulary without merges loads; the tokenizer's own BOS is added where it adds one."""
    from tokenizers.processors import TemplateProcessing

    words = exported.tokenizer(bos_token="<|im_start|>")
    start = words.convert_tokens_to_ids("<|im_start|>")
    words.backend_tokenizer.post_processor = TemplateProcessing(single="<|im_start|> $A", special_tokens=[("<|im_start|>", start)])
    exported.student(tmp_path, "llama", words)
    gguf.write(tmp_path, tmp_path / "model.gguf", "f16")
    with LlamaCpp(tmp_path / "model.gguf", context=64, slots=1) as runtime:
        for text in exported.texts(50):
            assert runtime.tokenize(text) == words(text).input_ids
            assert runtime.tokenize(text)[0] == start


def test_rendered_chats_are_the_same(tmp_path: Path) -> None:
    _, words = exported.student(tmp_path, "llama")
    gguf.write(tmp_path, tmp_path / "model.gguf", "f16")
    chats = [
        [{"role": "user", "content": "Hi"}],
        [{"role": "system", "content": "Be\nbrief."}, {"role": "user", "content": ' 1 < 2 & "3" {{ x }}'}],
        [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}, {"role": "user", "content": "Größe 中文"}],
    ]
    with LlamaCpp(tmp_path / "model.gguf", context=64, slots=1) as runtime:
        for chat in chats:
            assert runtime.render(chat) == words.apply_chat_template(chat, tokenize=False, add_generation_prompt=True)


def test_a_head_of_its_own_is_kept_whatever_the_config_says(tmp_path: Path) -> None:
    model, _ = exported.student(tmp_path, "llama", tie_word_embeddings=False)
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**config, "tie_word_embeddings": True}))
    gguf.write(tmp_path, tmp_path / "model.gguf", "f16")
    assert divergence(tmp_path / "model.gguf", model) < CLOSE


def test_llama_cpps_own_reason_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Qwen3 with biases: the name table has a place for them, and llama.cpp has none."""
    exported.student(tmp_path, "qwen3", attention_bias=True)
    taken = architecture.FAMILIES["qwen3"]._replace(may_have=("attn_q.bias", "attn_k.bias", "attn_v.bias", "attn_output.bias"))
    monkeypatch.setattr(architecture, "FAMILIES", {"qwen3": taken})
    gguf.write(tmp_path, tmp_path / "model.gguf", "f16")
    with pytest.raises(StageError, match=r"llama.cpp cannot load model.gguf: .*wrong number of tensors"):
        LlamaCpp(tmp_path / "model.gguf", context=64)


def test_what_is_no_model_is_told_so(tmp_path: Path) -> None:
    (tmp_path / "model.gguf").write_bytes(b"GGUF but not really")
    with pytest.raises(StageError, match="cannot load model"):
        LlamaCpp(tmp_path / "model.gguf", context=64)

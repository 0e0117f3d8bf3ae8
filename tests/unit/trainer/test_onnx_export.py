"""ONNX Runtime computes what torch computes: with padding, with a cache, from the script in the model card, and nearly so in int8."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from tests.unit.trainer import exported, tiny

from distillery_trainer.errors import StageError
from distillery_trainer.export import onnx as onnx_export
from distillery_trainer.export.onnx_int8 import quantize
from distillery_trainer.export.onnx_runtime import OnnxRuntime
from distillery_trainer.models.generate import generate

Made = tuple[Path, Any, Any]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    """A student with tied embeddings and its fp32 graph, traced once."""
    folder = tmp_path_factory.mktemp("student")
    model, words = exported.student(folder, "llama", tie_word_embeddings=True)
    onnx_export.write(folder, folder / "fp32", "fp32")
    return folder, model, words


def difference(file: Path, model: Any) -> float:
    """Largest difference of logits, over a padded batch and the next token after it."""
    runtime = OnnxRuntime(file, stop_ids=[])
    rows = exported.prompts(4)
    width = max(map(len, rows))
    ids = np.array([[0] * (width - len(row)) + row for row in rows])
    mask = np.array([[0] * (width - len(row)) + [1] * len(row) for row in rows])
    first, cache = runtime.logits(ids, mask)
    following = np.array([[5], [6], [7], [8]])
    second, _ = runtime.logits(following, np.concatenate([mask, np.ones_like(following)], 1), cache)
    worst = 0.0
    for row, prompt in enumerate(rows):
        with torch.no_grad():
            wanted = model(torch.tensor([[*prompt, int(following[row, 0])]])).logits[0].numpy()
        found = np.concatenate([first[row, -len(prompt) :], second[row]])
        worst = max(worst, float(np.abs(found - wanted).max()))
    return worst


def test_logits_are_torchs(made: Made) -> None:
    folder, model, _ = made
    assert difference(folder / "fp32/model.onnx", model) < 1e-3


@pytest.mark.slow
@pytest.mark.parametrize("family", ["qwen2", "qwen3", "gpt2"])
def test_logits_of_other_families(tmp_path: Path, family: str) -> None:
    if family == "gpt2":
        model = tiny.model("gpt2", vocab=258)
        tiny.save(tmp_path, model, exported.tokenizer())
    else:
        model, _ = exported.student(tmp_path, family)
    onnx_export.write(tmp_path, tmp_path / "fp32", "fp32")
    assert difference(tmp_path / "fp32/model.onnx", model) < 1e-3


def test_answers_are_torchs(made: Made) -> None:
    """In the order of the prompts, whichever rows share a batch; an answer ends with its stop token."""
    folder, model, words = made
    prompts, stops = exported.prompts(9), range(0, 258, 7)
    heard: list[int] = []
    found = OnnxRuntime(folder / "fp32/model.onnx", stops, batch_size=4).answer(prompts, 12, heard.append)
    assert found == generate(model, words, prompts, 12, 4, stop_ids=list(stops))
    assert heard == [4, 8, 9]


def test_names_that_other_tools_know(made: Made) -> None:
    """Inputs, outputs, dimensions; nothing of the machine that traced it; config and tokenizer lie beside the graph."""
    folder, _, _ = made
    graph = onnx.load(folder / "fp32/model.onnx")
    shapes = {
        value.name: [d.dim_param or d.dim_value for d in value.type.tensor_type.shape.dim]
        for value in [*graph.graph.input, *graph.graph.output]
    }
    assert shapes["input_ids"] == ["batch", "sequence"]
    assert shapes["attention_mask"] == ["batch", "past_sequence + sequence"]
    assert shapes["past_key_values.1.value"] == ["batch", 2, "past_sequence", 16]
    assert shapes["present.1.value"] == ["batch", 2, "past_sequence + sequence", 16]
    assert shapes["logits"] == ["batch", "sequence", 258]
    assert b"site-packages" not in graph.SerializeToString()
    beside = {file.name for file in (folder / "fp32").iterdir()}
    assert beside >= {"model.onnx", "config.json", "generation_config.json", "tokenizer.json", "chat_template.jinja"}


def quantized(graph: Path, target: Path) -> onnx.GraphProto:
    """The graph of the int8 form, written to `target`."""
    quantize(graph, target)
    return onnx.load(target).graph


def distance(file: Path, model: Any) -> float:
    """Mean total variation of the next token's distribution from torch's, over a prompt."""
    prompt = exported.prompts(4)[0]
    with torch.no_grad():
        wanted = model(torch.tensor([prompt])).logits[0].softmax(-1).numpy()
    logits, _ = OnnxRuntime(file, []).logits(np.array([prompt]), np.ones((1, len(prompt)), np.int64))
    return float(np.abs(torch.tensor(logits[0]).softmax(-1).numpy() - wanted).sum(-1).mean()) / 2


def test_int8_is_a_quarter_and_near(made: Made, tmp_path: Path) -> None:
    """One byte a weight, a scale for 32; a head tied to the embedding is stored once. Random weights are the worst case for its error."""
    folder, model, _ = made
    graph = quantized(folder / "fp32/model.onnx", tmp_path / "int8.onnx")
    stored = {kind: sum(int(np.prod(t.dims)) for t in graph.initializer if t.data_type == kind) for kind in (1, 2)}
    matrices = sum(p.numel() for p in model.parameters() if p.ndim == 2)
    assert stored[onnx.TensorProto.UINT8] == matrices
    assert stored[onnx.TensorProto.FLOAT] < 0.05 * matrices
    assert distance(tmp_path / "int8.onnx", model) < 0.05


@pytest.mark.slow
@pytest.mark.parametrize(("family", "hidden"), [("gpt2", 64), ("gpt2", 40), ("qwen2", 64)])
def test_int8_of_other_families(tmp_path: Path, family: str, hidden: int) -> None:
    """Matrices with a bias, a head of its own, a width that is no multiple of a block: no matrix product is left in fp32."""
    model = tiny.model(family, vocab=258, hidden=hidden)
    tiny.save(tmp_path, model, exported.tokenizer())
    onnx_export.write(tmp_path, tmp_path / "fp32", "fp32")
    graph = quantized(tmp_path / "fp32/model.onnx", tmp_path / "int8.onnx")
    constants = {tensor.name for tensor in graph.initializer if len(tensor.dims) == 2}
    assert not [node for node in graph.node if node.op_type in ("MatMul", "Gemm") and constants & set(node.input)]
    assert distance(tmp_path / "int8.onnx", model) < 0.05


def test_script_of_the_model_card(made: Made) -> None:
    """The twenty lines that users copy give the runner's answer."""
    folder, _, words = made
    script = Path(onnx_export.__file__).with_name("onnx_example.py")
    run = subprocess.run([sys.executable, str(script), str(folder / "fp32"), "seven times"], check=True, capture_output=True, text=True)
    ids = OnnxRuntime(folder / "fp32/model.onnx", [words.eos_token_id]).answer([words("seven times").input_ids], 256)[0]
    assert run.stdout == words.decode(ids, skip_special_tokens=True) + "\n"


def test_what_is_no_graph_is_told_so(tmp_path: Path) -> None:
    (tmp_path / "model.onnx").write_bytes(b"no graph")
    with pytest.raises(StageError, match="ONNX Runtime cannot load"):
        OnnxRuntime(tmp_path / "model.onnx", [])

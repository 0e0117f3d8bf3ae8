"""Folders as people publish them: files that contradict each other, lie beside the model, or say something in another place."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from tests.unit.trainer import exported, tiny
from tests.unit.trainer.odd import GLM, add_adapter, contradicting, edit, export, journey, logits, read
from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig, LlamaConfig, MambaConfig, XLNetConfig

from distillery_trainer.data.templates import Renderer, choose_template, template_of
from distillery_trainer.errors import StageError
from distillery_trainer.export import gguf
from distillery_trainer.models.endings import end_ids, savable
from distillery_trainer.models.files import fetch_model, read_generation, read_model, read_tokenizer
from distillery_trainer.models.positions import UNLIMITED, position_limit
from distillery_trainer.student.layers import keep_layers
from distillery_trainer.student.make import Student


def test_weights_decide_whether_the_head_is_the_embedding(tmp_path: Path) -> None:
    made = contradicting(tmp_path / "teacher")
    loaded = read(tmp_path / "teacher", tmp_path)
    assert loaded.config.tie_word_embeddings is False
    assert torch.equal(logits(keep_layers(loaded, [0, 1])), logits(made))
    unread = AutoModelForCausalLM.from_pretrained(tmp_path / "teacher").eval()
    assert torch.equal(logits(keep_layers(unread, [0, 1])), logits(made))


def test_a_head_that_is_missing_is_told_with_its_remedy(tmp_path: Path) -> None:
    tiny.save(tmp_path / "teacher", tiny.model(tie_word_embeddings=True), tiny.tokenizer())
    edit(tmp_path / "teacher", "config.json", tie_word_embeddings=False)
    with pytest.raises(StageError, match=r"lm_head\.weight.*set tie_word_embeddings to true"):
        read(tmp_path / "teacher", tmp_path)


@pytest.mark.parametrize(
    ("given", "left"),
    [
        ({"temperature": 0.9, "top_p": 0.6, "do_sample": False}, {"temperature": None, "top_p": None}),
        ({"num_beams": 1, "length_penalty": 0.5, "repetition_penalty": 1.1}, {"length_penalty": None, "repetition_penalty": 1.1}),
        ({"do_sample": True, "temperature": 0.9, "top_k": 20}, {"temperature": 0.9, "top_k": 20}),
        ({"num_return_sequences": 3, "eos_token_id": [1, 2]}, {"num_return_sequences": None, "eos_token_id": [1, 2]}),
        ({"cache_implementation": "nonsense"}, {"cache_implementation": None}),
        ({"suppress_tokens": [1], "forced_eos_token_id": 1, "pad_token_id": 2}, {"forced_eos_token_id": None, "pad_token_id": 2}),
    ],
)
def test_generation_configs_are_saved_as_near_as_can_be(tmp_path: Path, given: dict[str, Any], left: dict[str, Any]) -> None:
    config = GenerationConfig()
    for name, value in given.items():
        setattr(config, name, value)
    savable(config).save_pretrained(tmp_path)
    again = GenerationConfig.from_pretrained(tmp_path)
    assert {name: getattr(again, name) for name in left} == left


@pytest.mark.parametrize(
    ("config", "limit"),
    [
        (LlamaConfig(max_position_embeddings=77), 77),
        (tiny.model("gpt2", positions=66).config, 66),
        (MambaConfig(), UNLIMITED),
        (XLNetConfig(), UNLIMITED),
    ],
)
def test_one_function_knows_how_far_a_model_sees(config: Any, limit: int) -> None:
    assert position_limit(config) == limit


def test_any_place_that_names_an_end_is_heard(tmp_path: Path) -> None:
    """Template, tokenizer and generation config; ids that the tokenizer does not have are none."""
    tiny.save(tmp_path / "teacher", tiny.model(), tiny.tokenizer(template=None, eos="<|endoftext|>"))
    edit(tmp_path / "teacher", "generation_config.json", eos_token_id=[0, 1, 2, 5000, -1])
    files = fetch_model(f"file://{tmp_path}/teacher", "teacher", tmp_path)
    words, generation = read_tokenizer(files), read_generation(files)
    assert end_ids(generation) == {0, 1, 2, 5000}
    renderer = Renderer(words, None, end_ids(generation))
    assert renderer.stop_ids == {0, 1, 2}
    Student(read_model(files, torch.float32), words, renderer, "spec.student.model").save(tmp_path / "saved", 0)
    assert GenerationConfig.from_pretrained(tmp_path / "saved").eos_token_id == [0, 1, 2]
    (tmp_path / "teacher/generation_config.json").unlink()
    edit(tmp_path / "teacher", "config.json", eos_token_id=[0, 7])
    assert end_ids(read_generation(fetch_model(f"file://{tmp_path}/teacher", "teacher", tmp_path))) == {0, 7}


def test_stop_strings_that_are_tokens_end_answers_too(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """The published folder has their ids: generate() takes those without a tokenizer."""
    words = tiny.tokenizer()
    generation = GenerationConfig(eos_token_id=2, stop_strings=["<|endoftext|>", "no token"])
    assert end_ids(generation, words) == {0, 2}
    assert "no tokens, so answers do not end there: ['no token']" in caplog.text
    made = tiny.model()
    made.generation_config = generation
    Student(made, words, Renderer(words, tiny.CHATML, {0, 2}), "spec.student.model").save(tmp_path, 2)
    saved = GenerationConfig.from_pretrained(tmp_path)
    assert (saved.eos_token_id, saved.stop_strings) == ([0, 2], None)


def test_all_ends_of_a_gguf_file_are_heard(tmp_path: Path) -> None:
    """transformers reads the first alone."""
    exported.student(tmp_path / "source", "llama")
    edit(tmp_path / "source", "generation_config.json", eos_token_id=[257, 256, 65])
    gguf.write(tmp_path / "source", tmp_path / "teacher.gguf", "f16")
    files = fetch_model(f"file://{tmp_path}/teacher.gguf", "teacher", tmp_path)
    assert end_ids(read_generation(files)) == {257, 256, 65}
    assert end_ids(read_model(files, torch.float32).generation_config) == {257, 256, 65}


def test_an_end_that_is_no_id_is_told(tmp_path: Path) -> None:
    tiny.save(tmp_path / "teacher", tiny.model(), tiny.tokenizer())
    edit(tmp_path / "teacher", "generation_config.json", eos_token_id=["<|im_end|>"])
    with pytest.raises(StageError, match=r"generation config cannot be read .*'<\|im_end\|>' is no token id.*remove that setting"):
        read_generation(fetch_model(f"file://{tmp_path}/teacher", "teacher", tmp_path, weights=False))


def test_model_weights_win_over_an_adapter_beside_them(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    tiny.save(tmp_path / "teacher", tiny.model(), tiny.tokenizer())
    add_adapter(tmp_path / "teacher")
    with caplog.at_level(logging.WARNING):
        loaded = read(tmp_path / "teacher", tmp_path)
    assert torch.equal(logits(loaded), logits(tiny.model()))
    assert "adapter_config.json, adapter_model.safetensors left out" in caplog.text


def test_an_index_that_names_a_lost_shard_is_refused_without_weights(tmp_path: Path) -> None:
    """Other safetensors in the folder are no part of the model."""
    made, words = tiny.model(), tiny.tokenizer()
    made.save_pretrained(tmp_path / "teacher", max_shard_size="100KB")
    words.save_pretrained(tmp_path / "teacher")
    save_file({"x": torch.zeros(9)}, tmp_path / "teacher/consolidated.safetensors")
    shards = sorted((tmp_path / "teacher").glob("model-*.safetensors"))
    files = fetch_model(f"file://{tmp_path}/teacher", "teacher", tmp_path)
    assert files.weight_bytes == sum(file.stat().st_size for file in shards)
    assert not (files.folder / "consolidated.safetensors").exists()
    assert torch.equal(logits(read_model(files, torch.float32)), logits(made))
    shards[1].unlink()
    with pytest.raises(StageError, match=f"names 1 files that are not there, first {shards[1].name}"):
        fetch_model(f"file://{tmp_path}/teacher", "teacher", tmp_path, weights=False)


def test_templates_that_lie_in_a_folder_of_their_own_are_read(tmp_path: Path) -> None:
    tiny.save(tmp_path / "teacher", tiny.model(), tiny.tokenizer(template=None))
    folder = tmp_path / "teacher/additional_chat_templates"
    folder.mkdir()
    (folder / "rag.jinja").write_text(tiny.CHATML)
    (folder / "tool_use.jinja").write_text(tiny.CHATML)
    words = read_tokenizer(fetch_model(f"file://{tmp_path}/teacher", "teacher", tmp_path, weights=False))
    with pytest.raises(StageError, match=r"data\.chatTemplate: the teacher has the chat templates rag, tool_use, .*chat_template\.jinja"):
        template_of(words)
    with pytest.raises(StageError, match=r"the student has .* set it to teacher or none"):
        choose_template("auto", words, tiny.tokenizer())
    assert choose_template("teacher", words, tiny.tokenizer()) == tiny.CHATML
    assert choose_template("none", words, None) is None


def test_only_lists_per_layer_are_cut() -> None:
    """Two ids that end an answer, in a teacher of two layers."""
    teacher = tiny.model("qwen3", eos_token_id=[2, 0], layer_types=["full_attention", "full_attention"])
    kept = keep_layers(teacher, [1]).config
    assert (kept.eos_token_id, kept.layer_types, kept.num_hidden_layers) == ([2, 0], ["full_attention"], 1)


def test_an_end_that_is_an_ordinary_token_is_no_part_of_the_text() -> None:
    words = tiny.tokenizer()
    ids = [int(token) for token in words("the fox", add_special_tokens=False)["input_ids"]]
    end = words.convert_tokens_to_ids("x")
    renderer = Renderer(words, tiny.CHATML, {end})
    assert renderer.text([*ids, end]) == "the fox"
    assert renderer.text(ids[:-1]) == words.decode(ids[:-1])


def test_a_student_without_an_eos_token_ends_as_its_generation_config_says() -> None:
    words = tiny.tokenizer(template=None)
    words.eos_token = None
    assert Renderer(words, None, {2}).end == (2,)


def test_all_at_once_is_published_as_it_was_evaluated(tmp_path: Path) -> None:
    """A folder with all of it goes through every stage, as teacher and as student; each artifact answers as the student did."""
    words = tiny.tokenizer(size=300)
    made = tiny.model(vocab=320, tie_word_embeddings=False)  # rows of the embedding that no token has
    tiny.save(tmp_path / "teacher", made, words)
    edit(tmp_path / "teacher", "config.json", tie_word_embeddings=True)
    edit(tmp_path / "teacher", "generation_config.json", **GLM)
    add_adapter(tmp_path / "teacher")
    tiny.lines(tmp_path / "train.jsonl", [{"prompt": f"say {word} {n}"} for word in ("fox", "dog", "six") for n in range(8)])
    exports = [
        {"name": "f16", "format": "gguf", "quantization": "f16"},
        {"name": "half", "format": "safetensors", "quantization": "fp32"},
    ]
    spec = tiny.spec(
        tmp_path,
        student={"model": {"uri": f"file://{tmp_path}/teacher"}},
        data={"train": {"uri": f"file://{tmp_path}/train.jsonl", "format": "prompt"}, "curation": {"decontaminate": False}},
        training={"maxSteps": 1, "globalBatchSize": 4, "learningRate": "0.0001", "maxSequenceLength": 128},
        evaluation={"generation": {"maxNewTokens": 8, "batchSize": 8}},
        exports=exports,
    )
    spec["teacher"]["model"]["sampling"] = {"maxCompletionTokens": 90}
    journey(tmp_path, spec)
    for name in ("f16", "half"):
        artifact = next((tmp_path / "out/stages").glob(f"export-{name}-*/**/artifact.json"))
        told = {metric["name"]: metric["value"] for metric in json.loads(artifact.read_text())["evaluation"]}
        assert told["agreement"] == "1", (name, told)
    trained = next((tmp_path / "out/stages").glob("train-*/**/model/config.json")).parent
    assert GenerationConfig.from_pretrained(trained).eos_token_id == [0, 1, 2]
    assert "lm_head.weight" in load_file(trained / "model.safetensors")
    assert AutoTokenizer.from_pretrained(trained).eos_token_id == 2


def test_an_artifact_that_cannot_be_is_withheld_and_the_others_are_published(tmp_path: Path) -> None:
    """A weight beyond F16: no file with infinity leaves the export stage, and nothing else is lost."""
    made = tiny.model()
    made.model.layers[0].mlp.up_proj.weight.data[3, 5] = 1e5
    tiny.save(tmp_path / "teacher", made, tiny.tokenizer())
    tiny.lines(tmp_path / "train.jsonl", [{**row, "prompt": f"{row['prompt']} {n}"} for row in tiny.PAIRS for n in range(2)])
    exports = [export("gguf", "f16"), {"name": "whole", "format": "safetensors", "quantization": "fp32"}]
    training = {"maxSteps": 1, "globalBatchSize": 4, "maxSequenceLength": 128, "learningRate": "0.0001"}
    generation = {"generation": {"maxNewTokens": 4, "batchSize": 8}}
    spec = tiny.spec(tmp_path, student={"fromTeacher": {"numHiddenLayers": 2}}, training=training, evaluation=generation, exports=exports)
    spec["data"]["curation"] = {"decontaminate": False}
    place = journey(tmp_path, spec, publish=True)
    artifacts = {artifact.name: artifact for artifact in place.result().artifacts or ()}
    assert artifacts["whole"].passed
    assert artifacts["edge"].passed is False
    assert artifacts["edge"].uri is None
    assert "up_proj.weight' holds 1e+05, and f16 reaches to 6.55e+04" in (artifacts["edge"].message or "")
    assert not list((tmp_path / "out").rglob("*.gguf"))

"""Students are made as the job says, the same each time, and are saved as others load them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from tests.unit.trainer import tiny
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    Gemma2Config,
    Gemma2ForCausalLM,
    PreTrainedModel,
    Qwen3Config,
    Qwen3ForCausalLM,
)

from distillery.api.job import DistillationJobSpec
from distillery.api.student import FromTeacher, Lora, Scratch
from distillery_trainer.data.templates import Renderer, template_of
from distillery_trainer.errors import StageError
from distillery_trainer.student.layers import chosen_layers, keep_layers
from distillery_trainer.student.make import Student, make_student, random_model, require_same_tokens, with_adapters

IDS = torch.tensor([[5, 6, 7, 8, 9]])
SCRATCH = {"numHiddenLayers": 2, "hiddenSize": 32, "intermediateSize": 64, "numAttentionHeads": 4}


def specification(tmp_path: Path, student: dict[str, Any], seed: int = 0) -> DistillationJobSpec:
    """A job with this student; the teacher is in tmp_path/teacher."""
    return DistillationJobSpec.model_validate(
        {
            "teacher": {"model": {"uri": f"file://{tmp_path}/teacher"}},
            "student": student,
            "data": {"train": {"uri": f"file://{tmp_path}/train.jsonl"}},
            "training": {"seed": seed},
            "output": {"uri": f"file://{tmp_path}/out"},
        }
    )


def logits(model: PreTrainedModel) -> torch.Tensor:
    """What a model says of a few tokens."""
    with torch.no_grad():
        found: torch.Tensor = model.train(False)(IDS).logits
    return found


@pytest.mark.parametrize(
    ("choice", "total", "kept"),
    [
        (FromTeacher(num_hidden_layers=3), 6, [0, 2, 5]),
        (FromTeacher(num_hidden_layers=15), 30, [0, 2, 4, 6, 8, 10, 12, 14, 17, 19, 21, 23, 25, 27, 29]),
        (FromTeacher(num_hidden_layers=1), 6, [0]),
        (FromTeacher(num_hidden_layers=6), 6, [0, 1, 2, 3, 4, 5]),
        (FromTeacher(layer_indices=[1, 4]), 6, [1, 4]),
    ],
)
def test_layers_are_spread_evenly_with_the_first_and_the_last(choice: FromTeacher, total: int, kept: list[int]) -> None:
    assert chosen_layers(choice, total) == kept


@pytest.mark.parametrize(
    ("choice", "message"),
    [
        (FromTeacher(num_hidden_layers=7), "7 is more than the teacher's 6 layers"),
        (FromTeacher(layer_indices=[0, 6]), "numbered 0 to 5; 6 is none of them"),
    ],
)
def test_impossible_layers_are_refused(choice: FromTeacher, message: str) -> None:
    with pytest.raises(StageError, match=message):
        chosen_layers(choice, 6)


def family(name: str) -> PreTrainedModel:
    """A random model of four layers."""
    torch.manual_seed(2)
    shape = {
        "vocab_size": 320,
        "hidden_size": 32,
        "num_hidden_layers": 4,
        "num_attention_heads": 4,
        "head_dim": 8,
        "initializer_range": 0.3,
    }
    if name == "qwen3":
        return Qwen3ForCausalLM(Qwen3Config(**shape, intermediate_size=64, num_key_value_heads=2))
    if name == "gemma2":
        return Gemma2ForCausalLM(Gemma2Config(**shape, intermediate_size=64, num_key_value_heads=2))
    return tiny.model(name, hidden=32, layers=4)


@pytest.mark.parametrize("name", ["llama", "qwen2", "qwen3", "gpt2", "gemma2"])
def test_a_cut_student_is_the_teacher_without_the_other_layers(name: str) -> None:
    teacher = family(name)
    assert torch.equal(logits(keep_layers(teacher, [0, 1, 2, 3])), logits(teacher))
    cut = keep_layers(teacher, [0, 3])
    assert cut.config.num_hidden_layers == 2
    assert len(getattr(cut.config, "layer_types", None) or [0, 0]) == 2
    decoder: Any = teacher.get_decoder()  # type: ignore[no-untyped-call]
    for block in list(decoder.h if name == "gpt2" else decoder.layers)[1:3]:
        block.forward = lambda states, *_, **__: states
    torch.testing.assert_close(logits(cut), logits(teacher), rtol=0, atol=0)


@pytest.mark.parametrize("name", ["llama", "qwen2", "qwen3", "gpt2"])
def test_a_new_model_has_the_shape_asked_for_and_starts_neither_dead_nor_wild(name: str) -> None:
    words = tiny.tokenizer()
    made = random_model(Scratch.model_validate({"architecture": name, **SCRATCH}), 320, words)
    config = made.config
    assert (config.model_type, config.vocab_size, config.hidden_size, config.num_hidden_layers) == (name, 320, 32, 2)
    assert config.eos_token_id == words.eos_token_id
    assert made.get_input_embeddings().weight.std().item() == pytest.approx(32**-0.5, rel=0.05)  # type: ignore[no-untyped-call]
    assert 0.1 < logits(made).std().item() < 10


def test_the_same_job_makes_the_same_student(tmp_path: Path) -> None:
    tiny.save(tmp_path / "teacher", tiny.model(), tiny.tokenizer())
    make = lambda seed: make_student(specification(tmp_path, {"scratch": SCRATCH}, seed), tmp_path / "teacher", tmp_path)  # noqa: E731
    first = make(0)
    torch.rand(7)
    assert torch.equal(logits(first.model), logits(make(0).model))
    assert not torch.equal(logits(first.model), logits(make(1).model))


@pytest.mark.parametrize("student", [{"fromTeacher": {"numHiddenLayers": 1}}, {"model": {"uri": "given"}}])
def test_students_from_weights(tmp_path: Path, student: dict[str, Any]) -> None:
    uri = tiny.save(tmp_path / "teacher", tiny.model(), tiny.tokenizer())
    if "model" in student:
        student = {"model": {"uri": uri}}
    made = make_student(specification(tmp_path, student), tmp_path / "teacher", tmp_path / "work")
    assert made.model.config.num_hidden_layers == (1 if "fromTeacher" in student else 2)
    assert made.model.dtype == torch.float32
    assert made.renderer.template == tiny.CHATML


def test_another_vocabulary_is_refused() -> None:
    ours, theirs = tiny.tokenizer(), tiny.tokenizer(size=300)
    require_same_tokens(ours, ours)
    theirs.add_tokens(["<extra>"])
    with pytest.raises(StageError, match=r"in the student's tokenizer, but .* in the teacher's: their distributions cannot be compared"):
        require_same_tokens(ours, theirs)


def saved(tmp_path: Path, student: Student, end: int) -> tuple[Any, Any]:
    """The published folder, loaded as anybody would."""
    student.save(tmp_path / "model", end)
    return AutoModelForCausalLM.from_pretrained(tmp_path / "model"), AutoTokenizer.from_pretrained(tmp_path / "model")


def plain_student(model: PreTrainedModel) -> Student:
    """A student with a chat template."""
    words = tiny.tokenizer(eos="<|endoftext|>")
    return Student(model, words, Renderer(words, template_of(words)), "spec.student.model")


def test_saved_weights_are_what_f16_holds(tmp_path: Path) -> None:
    """So an F16 file has the very numbers that were evaluated. The nearest ones, and tied weights stay tied."""
    made = plain_student(tiny.model(tie_word_embeddings=True))
    before = {name: parameter.detach().clone() for name, parameter in made.model.named_parameters()}
    model, _ = saved(tmp_path, made, 3)
    assert model.lm_head.weight is model.model.embed_tokens.weight
    for name, parameter in model.named_parameters():
        assert parameter.dtype == torch.float32
        assert torch.equal(parameter, before[name].half().float())


def test_weights_beyond_f16_are_not_rounded_and_it_is_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    made = plain_student(tiny.model())
    with torch.no_grad():
        made.model.model.embed_tokens.weight[0, 0] = 70000.0
    before = {name: parameter.detach().clone() for name, parameter in made.model.named_parameters()}
    model, _ = saved(tmp_path, made, 3)
    assert all(torch.equal(parameter, before[name]) for name, parameter in model.named_parameters())
    assert "beyond F16's range" in caplog.text


def test_the_saved_folder_loads_with_template_and_stop_ids(tmp_path: Path) -> None:
    made = plain_student(tiny.model())
    end, eos = made.renderer.end[-1], made.tokenizer.eos_token_id
    model, words = saved(tmp_path, made, end)
    assert torch.equal(logits(model), logits(made.model))
    assert model.dtype == torch.float32
    assert model.generation_config.eos_token_id == sorted({end, eos})
    assert model.generation_config.pad_token_id == made.tokenizer.pad_token_id
    assert words.chat_template == tiny.CHATML


def test_plain_text_publishes_no_template(tmp_path: Path) -> None:
    words = tiny.tokenizer()
    _, loaded = saved(tmp_path, Student(tiny.model(), words, Renderer(words, None), "spec.student.model"), 2)
    assert loaded.chat_template is None


@pytest.mark.parametrize("name", ["llama", "gpt2"])
@pytest.mark.parametrize("rslora", [False, True])
def test_merged_adapters_give_the_adapted_output(tmp_path: Path, name: str, rslora: bool) -> None:
    base = tiny.model(name)
    plain = logits(base)
    adapters = with_adapters(base, Lora(rank=4, alpha=8, use_rslora=rslora))
    assert torch.equal(logits(base), plain)
    for parameter_name, parameter in base.named_parameters():
        if "lora_B" in parameter_name:
            torch.nn.init.normal_(parameter, std=0.1)
    trained = {n for n, p in base.named_parameters() if p.requires_grad}
    assert trained
    assert all("lora_" in n for n in trained)
    adapted = logits(base)
    assert not torch.allclose(adapted, plain, atol=1e-2)
    words = tiny.tokenizer()
    model, _ = saved(tmp_path, Student(base, words, Renderer(words, None), "spec.student.model", adapters), 2)
    # but for the rounding to F16's values
    assert (logits(model) - adapted).abs().max() < 0.01 * (adapted - plain).abs().max()


@pytest.mark.parametrize(
    ("targets", "message"),
    [
        (["nothing_like_it"], "name linear layers of the student, or all-linear"),
        (["q_proj", "lm_head"], "adapts the embedding or the output head"),
    ],
)
def test_adapters_where_none_can_be_are_refused(targets: list[str], message: str) -> None:
    with pytest.raises(StageError, match=message):
        with_adapters(tiny.model(), Lora(target_modules=targets))

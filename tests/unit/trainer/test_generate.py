"""Batched decoding answers as one row at a time does, and as transformers' own loop does."""

from __future__ import annotations

import pytest
import torch
from tokenizers import Tokenizer, models
from transformers import (
    AutoModelForCausalLM,
    GPT2Config,
    LlamaConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    PreTrainedTokenizerFast,
    Qwen2Config,
    Qwen3Config,
)

from distillery_trainer.models.generate import default_stop_ids, generate

SMALL = {"vocab_size": 40, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "max_position_embeddings": 24}
FAMILIES = {
    "llama": LlamaConfig(**SMALL, intermediate_size=64, num_key_value_heads=2),
    "qwen2": Qwen2Config(**SMALL, intermediate_size=64, num_key_value_heads=2),
    "qwen3": Qwen3Config(**SMALL, intermediate_size=64, num_key_value_heads=2, head_dim=8),
    "gpt2": GPT2Config(vocab_size=40, n_embd=32, n_layer=2, n_head=4, n_positions=24),
}
PROMPTS = [[5, 6, 7], [9], [1, 2, 3, 4, 5, 6, 7], [11, 12], [30, 31, 32, 33]]


@pytest.fixture(params=sorted(FAMILIES))
def model(request: pytest.FixtureRequest) -> PreTrainedModel:
    torch.manual_seed(1)
    config = FAMILIES[request.param]
    config.eos_token_id, config.initializer_range = 3, 0.3
    made = AutoModelForCausalLM.from_config(config, attn_implementation="sdpa")
    assert isinstance(made, PreTrainedModel)
    return made.train(False)


@pytest.fixture
def tokenizer() -> PreTrainedTokenizerBase:
    vocab = {f"t{i}": i for i in range(40)}
    return PreTrainedTokenizerFast(tokenizer_object=Tokenizer(models.WordLevel(vocab, unk_token="t0")), eos_token="t3")


def test_a_batch_answers_as_each_row_alone(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> None:
    together = generate(model, tokenizer, PROMPTS, 12, batch_size=4)
    alone = [generate(model, tokenizer, [prompt], 12, batch_size=1)[0] for prompt in PROMPTS]
    assert together == alone


def test_greedy_equals_the_library_loop(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> None:
    ours = generate(model, tokenizer, PROMPTS, 12, batch_size=8)
    for prompt, answer in zip(PROMPTS, ours, strict=True):
        ids = torch.tensor([prompt])
        theirs = model.generate(
            ids, attention_mask=torch.ones_like(ids), max_new_tokens=12, do_sample=False, eos_token_id=3, pad_token_id=0
        )
        assert answer == theirs[0, len(prompt) :].tolist()


def test_the_stop_token_is_the_last_and_a_cut_answer_has_none(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> None:
    free = generate(model, tokenizer, [[5, 6]], 8, batch_size=1, stop_ids=())[0]
    stopped = generate(model, tokenizer, [[5, 6]], 8, batch_size=1, stop_ids={free[2]})[0]
    assert len(free) == 8
    assert stopped == free[: free.index(free[2]) + 1]


def test_rows_end_where_the_models_positions_end(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> None:
    answers = generate(model, tokenizer, [[1] * 20, [1], [2] * 24, [2] * 25], 100, batch_size=4, stop_ids=())
    assert [len(a) for a in answers] == [5, 24, 1, 0]


def test_sampled_text_depends_on_seed_and_row_only(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> None:
    draw = lambda size, seed: generate(model, tokenizer, PROMPTS, 10, size, temperature=1.0, seed=seed)  # noqa: E731
    assert draw(5, 7) == draw(2, 7)
    assert draw(5, 7) != draw(5, 8)


def test_an_empty_prompt_is_refused(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> None:
    with pytest.raises(ValueError, match="prompt 1 has no tokens"):
        generate(model, tokenizer, [[1], []], 4, batch_size=2)


def test_stop_ids_come_from_the_generation_config_and_the_tokenizer(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> None:
    model.generation_config.eos_token_id = [7, 9]
    assert default_stop_ids(model, tokenizer) == {3, 7, 9}


def test_progress_is_told_and_the_mode_is_kept(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> None:
    done: list[int] = []
    model.train()
    generate(model, tokenizer, PROMPTS, 2, batch_size=2, on_batch=done.append)
    assert done == [2, 4, 5]
    assert model.training

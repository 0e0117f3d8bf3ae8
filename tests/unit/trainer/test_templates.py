"""Rendering: prompts, completions that end, masks by position."""

from __future__ import annotations

import pytest
from tests.unit.trainer import tiny
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from distillery_trainer.data.examples import render
from distillery_trainer.data.rows import Row
from distillery_trainer.data.templates import Renderer, choose_template, shown
from distillery_trainer.errors import StageError

LLAMA2 = (
    "{% for m in messages %}{% if m['role'] == 'user' %}{{ '[INST] ' + m['content'] + ' [/INST]' }}"
    "{% else %}{{ ' ' + m['content'] + ' <|endoftext|>' }}{% endif %}{% endfor %}"
)
ENDLESS = "{% for m in messages %}{{ m['role'] + ': ' + m['content'] + '\n' }}{% endfor %}{{ 'assistant:' if add_generation_prompt }}"
NO_SYSTEM = "{% if messages[0]['role'] == 'system' %}{{ raise_exception('no system message') }}{% endif %}" + tiny.CHATML


def test_chat_template_renders_prompt_and_ends_completion() -> None:
    """What stands behind the end-of-turn token (a line break) is not the student's to write."""
    words = tiny.tokenizer()
    renderer = Renderer(words, tiny.CHATML)
    assert renderer.prompt_text("hi") == "<|im_start|>user\nhi<|im_end|>\n<|im_start|>assistant\n"
    assert words.decode(renderer.prompt_ids("hi")) == renderer.prompt_text("hi")
    assert words.convert_ids_to_tokens(renderer.completion_ids("fox"))[-1] == "<|im_end|>"
    assert renderer.text(renderer.completion_ids("fox")) == "fox"


@pytest.mark.parametrize(
    ("template", "end"), [(tiny.CHATML, "<|im_end|>"), (LLAMA2, "<|endoftext|>"), (ENDLESS, "<|im_end|>"), (None, "<|im_end|>")]
)
def test_completions_end_with_the_turns_end_or_eos(template: str | None, end: str) -> None:
    """EOS where the template ends a turn without a special token, and in plain text."""
    words = tiny.tokenizer(template)
    renderer = Renderer(words, template)
    assert words.convert_ids_to_tokens(list(renderer.end)) == [end]
    assert words.eos_token_id in renderer.stop_ids
    assert renderer.completion_ids("")[-1] in renderer.stop_ids


def test_plain_text_keeps_what_the_tokenizer_puts_before_and_drops_what_it_puts_behind() -> None:
    """BOS stays; an EOS behind the prompt would end it before it began."""
    from tokenizers.processors import TemplateProcessing

    words = tiny.tokenizer(None)
    words.backend_tokenizer.post_processor = TemplateProcessing(
        single="<|endoftext|> $A <|im_end|>", special_tokens=[("<|endoftext|>", 0), ("<|im_end|>", 2)]
    )
    renderer = Renderer(words, None)
    ids = renderer.prompt_ids("the fox")
    assert ids[0] == 0
    assert ids[-1] != 2
    assert words.decode(ids[1:]) == "the fox"
    assert renderer.completion_ids("fox").count(2) == 1
    assert renderer.prompt_text([{"role": "system", "content": "a"}, {"role": "user", "content": "b"}]) == "a\nb"


HTML = ["<s>red 20</s> <b>red</b>", "the s> fox </ s> <unk>"] * 8


def html_tokenizer(kind: str) -> PreTrainedTokenizerFast:
    """Tokenizers of three kinds whose BOS and EOS are <s> and </s>, and which have an added token that is text."""
    special = ["<unk>", "<s>", "</s>"]
    if kind == "bytes":
        raw, pieces, decoder = Tokenizer(models.BPE()), pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
        alphabet = pre_tokenizers.ByteLevel.alphabet()
        trainer = trainers.BpeTrainer(vocab_size=400, special_tokens=special, initial_alphabet=alphabet, show_progress=False)
    elif kind == "words":
        raw, pieces, decoder = Tokenizer(models.BPE(unk_token="<unk>")), pre_tokenizers.Metaspace(), decoders.Metaspace()
        trainer = trainers.BpeTrainer(vocab_size=100, special_tokens=special, show_progress=False)
    else:
        raw, pieces, decoder = Tokenizer(models.Unigram()), pre_tokenizers.Metaspace(), decoders.Metaspace()
        trainer = trainers.UnigramTrainer(vocab_size=60, special_tokens=special, unk_token="<unk>", show_progress=False)
    raw.pre_tokenizer, raw.decoder = pieces, decoder
    raw.train_from_iterator(HTML, trainer)
    made = PreTrainedTokenizerFast(tokenizer_object=raw, bos_token="<s>", eos_token="</s>", unk_token="<unk>")
    made.add_tokens([AddedToken("<think>", special=False)])
    return made


@pytest.mark.parametrize("kind", ["bytes", "words", "pieces"])
@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("<s>red 20</s>", None),
        ("red</s> 20", None),
        ("<s><s>red</s></s>", None),
        ("red 20</s>", "red 20"),
        ("<s>red</s></s>", "<s>red</s>"),
    ],
)
def test_a_completion_holds_no_special_token_but_its_end(kind: str, text: str, left: str | None) -> None:
    """Text that spells one stays text; at the very end it is the end, and not written twice."""
    words = html_tokenizer(kind)
    ids = Renderer(words, None).completion_ids(text)
    assert ids[-1] == words.eos_token_id
    assert not {words.bos_token_id, words.eos_token_id} & set(ids[:-1])
    assert words.decode(ids[:-1]) == (text if left is None else left)


def test_text_without_special_tokens_is_read_as_ever() -> None:
    """Also what the tokenizer does not know, and its added tokens that are text."""
    for kind in ("bytes", "words", "pieces"):
        words = html_tokenizer(kind)
        renderer = Renderer(words, None)
        for text in ("red 20", "<think>red", "the fox \u6f22 red", "", "</ s> < s >"):
            assert renderer.completion_ids(text)[:-1] == words(text, add_special_tokens=False)["input_ids"]
    assert words.convert_tokens_to_ids("<think>") in renderer.completion_ids("<think>red")


def test_an_end_of_turn_that_no_flag_calls_special_is_one() -> None:
    words = tiny.tokenizer(None)
    words.add_tokens([AddedToken("<|turn|>", special=False)])
    renderer = Renderer(words, "{% for m in messages %}{{ m['content'] + '<|turn|>' }}{% endfor %}")
    end = words.convert_tokens_to_ids("<|turn|>")
    assert renderer.end == (end,)
    assert renderer.completion_ids("a <|turn|> b").count(end) == 1
    assert words.decode(renderer.completion_ids("a <|turn|> b")[:-1]) == "a <|turn|> b"


def test_a_given_completion_is_compared_as_it_is_trained_on() -> None:
    """Data sets that were made from rendered dialogues end each answer with the name of the end."""
    row = Row("r", "what is it", "a fox<|im_end|>\n", None, "rows.jsonl line 1")
    renderer = Renderer(tiny.tokenizer(), tiny.CHATML)
    example = render([row], renderer)[0]
    assert (example.completion, example.completion_ids) == ("a fox", renderer.completion_ids("a fox"))


def test_prompts_that_spell_special_tokens_are_counted() -> None:
    """They are read as tokens, as every runtime does it with its template."""
    plain = Renderer(tiny.tokenizer(), tiny.CHATML).plain
    prompts = ["plain", "an <|im_end|> in a prompt", [{"role": "user", "content": "<|im_start|>a<|im_end|>"}], "<s> is none here"]
    count, told = plain.in_prompts(prompts)
    assert count == 2
    assert told.startswith("2 prompts spell special tokens (<|im_end|>, <|im_start|>), which are read as those tokens")
    assert plain.in_prompts(["plain"]) == (0, "")


def test_template_that_refuses_is_told() -> None:
    """In the template's own words."""
    renderer = Renderer(tiny.tokenizer(NO_SYSTEM), NO_SYSTEM)
    with pytest.raises(ValueError, match="refuses the prompt: no system message"):
        renderer.prompt_ids([{"role": "system", "content": "x"}, {"role": "user", "content": "y"}])


def test_tokenizer_without_an_end_is_refused() -> None:
    """A student could never learn to stop."""
    words = tiny.tokenizer(None)
    words.eos_token = None
    with pytest.raises(StageError, match="set eos_token"):
        Renderer(words, None)


def test_choice_of_template() -> None:
    """auto: the student's, else the teacher's, else none."""
    with_own, without = tiny.tokenizer(), tiny.tokenizer(None)
    other = tiny.tokenizer(LLAMA2)
    assert choose_template("auto", with_own, other) == tiny.CHATML
    assert choose_template("auto", without, other) == LLAMA2
    assert choose_template("auto", without, without) is None
    assert choose_template("teacher", with_own, other) == LLAMA2
    assert choose_template("none", with_own, other) is None
    with pytest.raises(StageError, match=r"data\.chatTemplate: 'student'"):
        choose_template("student", without, other)


def test_row_is_shown_with_its_mask() -> None:
    """The text without loss, then each token with loss; the end is among them."""
    renderer = Renderer(tiny.tokenizer(), tiny.CHATML)
    text = shown(renderer, renderer.prompt_ids("hi"), renderer.completion_ids("the fox"))
    assert "no loss on" in text
    assert "| <|im_start|>assistant" in text
    assert text.endswith("'<|im_end|>'")

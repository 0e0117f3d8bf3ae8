"""What is made of one answer, as a table; and that nothing a server can say raises."""

from __future__ import annotations

import copy
import json
import random
from typing import Any

import pytest
from tests.unit.trainer import tiny
from tests.unit.trainer.gateway import chat

from distillery_trainer.data.end_words import KNOWN, without_end_words
from distillery_trainer.data.rows import Row
from distillery_trainer.data.templates import Renderer
from distillery_trainer.teacher.endpoint.answers import CUT, REFUSED, UNANSWERED, Choice, parsed
from distillery_trainer.teacher.endpoint.asks import Ask
from distillery_trainer.teacher.endpoint.distribution import Distribution, Reader
from distillery_trainer.teacher.endpoint.gateway import Reply
from distillery_trainer.teacher.endpoint.reasoning import split_reasoning


def choices(body: Any, samples: int = 1, reader: Reader | None = None) -> tuple[Choice, ...]:
    """Those of an answer."""
    ask = Ask(0, Row("r", "say it", None, None, "rows.jsonl line 1"), False, samples)
    answered, distributions = parsed(ask, Reply(body, 1, 0, 1, "k", ()), reader)
    assert len(answered.choices) == len(distributions) == samples
    json.dumps(answered.wire()).encode()
    return answered.choices


@pytest.mark.parametrize(
    ("text", "given", "answer", "reasoning"),
    [
        ("42", None, "42", None),
        ("\n\n42", None, "\n\n42", None),
        ("\n\n42", "six times seven", "42", "six times seven"),
        ("\n \n\t42\n", "six times seven", "42\n", "six times seven"),
        ("\n\n42", "  ", "\n\n42", None),
        ("<think>\nsix times seven\n</think>\n\n42", "six times seven", "42", "six times seven"),
        ("<think>six\ntimes</think>\n\n42", None, "42", "six\ntimes"),
        ("<think>\n\n</think>\n\n42", None, "42", None),
        ("<think>\nthe tag </think> ends it\n</think>\n42", None, "42", "the tag </think> ends it"),
        ("<think>\nshort</think>42", None, "42", "short"),
        ("<think>six times", None, "", "six times"),
        ("six times\n</think>\n\n42", None, "42", "six times"),
        ("six times\r\n</think>\r\n\r\n42", None, "42", "six times"),
        ("\n</think>\n42", None, "42", None),
        ("six times</think>42", None, "six times</think>42", None),
        ("The tag </think> ends it.", None, "The tag </think> ends it.", None),
        ("The tag </think>\nends it.", None, "The tag </think>\nends it.", None),
        ("So:\n<think>\nsix\n</think>\nThat is it.", None, "So:\n<think>\nsix\n</think>\nThat is it.", None),
        ("<reasoning>a</reasoning>42", None, "<reasoning>a</reasoning>42", None),
    ],
)
def test_thoughts_are_parted_from_the_answer(text: str, given: str | None, answer: str, reasoning: str | None) -> None:
    assert split_reasoning(text, given) == (answer, reasoning)


@pytest.mark.parametrize(
    "message",
    [
        {"content": "42", "reasoning_content": "six"},
        {"content": "42", "reasoning": "six"},
        {"content": "42", "reasoning_content": "", "reasoning": "six"},
        {"content": [{"type": "thinking", "thinking": [{"type": "text", "text": "six"}]}, {"type": "text", "text": "42"}]},
        {"content": [{"type": "thinking", "thinking": "six"}, {"type": "text", "text": "\n42"}]},
        {"content": [{"type": "reasoning", "reasoning": "six"}, {"type": "text", "text": "42"}]},
    ],
)
def test_thoughts_in_a_field_or_part_of_their_own(message: dict[str, Any]) -> None:
    assert choices({"choices": [{"message": message}]}) == (Choice("42", "six"),)


@pytest.mark.parametrize(
    ("word", "problem"),
    [
        ("stop", ""), (None, ""), ("STOP", ""), ("eos", ""), ("end_turn", ""), ("stop_sequence", ""),
        ("length", CUT), ("model_length", CUT), ("MAX_TOKENS", CUT), ("model_context_window_exceeded", CUT),
        ("content_filter", REFUSED),
        ("sensitive", UNANSWERED), ("SAFETY", UNANSWERED), ("tool_calls", UNANSWERED), (7, UNANSWERED), ({"a": 1}, UNANSWERED),
    ],
)  # fmt: skip
def test_only_a_whole_answer_is_learned_from(word: Any, problem: str) -> None:
    """Of any other the word is told."""
    choice = choices({"choices": [{"finish_reason": word, "message": {"content": "fox"}}]})[0]
    assert choice.problem == problem
    assert str(word) in choice.detail or not problem


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("red 20<|im_end|>", "red 20"),
        ("red 20<|im_end|>\n", "red 20"),
        ("red 20</s>", "red 20"),
        ("red 20<|im_end|><|endoftext|>", "red 20"),
        ("<s>red 20</s>", "<s>red 20</s>"),
        ("<s>red 20</s>\n", "<s>red 20</s>\n"),
        ("<s>red 20</s><|im_end|>", "<s>red 20</s>"),
        ("<s>red <s>20</s></s></s>", "<s>red <s>20</s></s>"),
        ("<|im_end|> ends a turn", "<|im_end|> ends a turn"),
        ("red 20\n", "red 20\n"),
        ("<|im_end|>", ""),
        ("", ""),
    ],
)
def test_the_name_of_an_end_at_the_end_is_no_text(text: str, left: str) -> None:
    assert without_end_words(text, KNOWN) == left
    assert choices(chat(text))[0].text == left


#: Values that a server may put anywhere.
ODD: tuple[Any, ...] = (
    None, True, -1, 0, 2**80, 10**400, 1e308, float("inf"), float("-inf"), float("nan"), "", "x", "\ud83d", "\x00", "stop", [], [None], {},
    {"": {}}, [[]], {"content": "x"}, [{"type": "text", "text": 3}], [300], ["a"], {"tokens": ["a"], "top_logprobs": [[1]]},
    {"tokens": ["\ud83d"], "top_logprobs": [{"\ud83d": 10**400}]}, {"tokens": [1, 2], "top_logprobs": [None, {"a": "b"}]},
)  # fmt: skip


def places(value: Any) -> list[tuple[Any, Any]]:
    """Every (container, key) in a JSON value."""
    inner = list(value.items()) if isinstance(value, dict) else list(enumerate(value)) if isinstance(value, list) else []
    return [place for key, child in inner for place in ((value, key), *places(child))]


def logprobs_of(renderer: Renderer, text: str) -> dict[str, Any]:
    """As a server gives them, two alternatives each."""

    def entry(token: int) -> dict[str, Any]:
        name = renderer.tokenizer.decode([token])
        return {"token": name, "bytes": list(name.encode()), "id": token, "logprob": -0.7}

    return {"content": [{**entry(token), "top_logprobs": [entry(token), entry(5)]} for token in renderer.completion_ids(text)]}


def test_nothing_that_a_server_says_raises() -> None:
    """1500 mutations of an answer; what cannot be used is unanswered, or has no distribution, with the reason."""
    renderer, chance, unusable = Renderer(tiny.tokenizer(), tiny.CHATML), random.Random(12), 0
    reader = Reader(renderer, 2)
    for _ in range(1500):
        body: Any = chat("the fox", "the dog", reasoning_content=None)
        body["choices"][0]["logprobs"] = logprobs_of(renderer, "the fox")
        for _ in range(chance.choice((1, 1, 2, 4))):
            where = [(inside, key) for inside, key in places(body) if inside is not body or key == "model"]
            inside, key = chance.choice(where)
            if chance.random() < 0.2 and isinstance(inside, dict):
                del inside[key]
            else:
                inside[key] = copy.deepcopy(chance.choice(ODD))
        found = choices(body, 2, reader)
        unusable += any(choice.problem for choice in found)
        assert all(choice.detail for choice in found if choice.problem)
        assert all(choice.text.strip() for choice in found if not choice.problem)
    assert 150 < unusable < 1350


@pytest.mark.parametrize("value", ODD)
def test_odd_log_probabilities_are_told_and_the_text_is_kept(value: Any) -> None:
    renderer = Renderer(tiny.tokenizer(), tiny.CHATML)
    body = chat("the fox")
    body["choices"][0]["logprobs"] = value
    choice = choices(body, 1, Reader(renderer, 2))[0]
    assert (choice.text, choice.problem, choice.without) == ("the fox", "", choice.without)
    assert choice.without in ("noLogprobs", "otherTokens", "notNormalised")


def test_an_end_word_in_the_text_does_not_cost_the_distribution() -> None:
    """The server's last token is the end itself."""
    renderer = Renderer(tiny.tokenizer(), tiny.CHATML)
    found = Reader(renderer, 2).read("the fox", logprobs_of(renderer, "the fox"))
    assert isinstance(found, Distribution)
    body = chat("the fox<|im_end|>")
    body["choices"][0]["logprobs"] = logprobs_of(renderer, "the fox")
    assert choices(body, 1, Reader(renderer, 2))[0] == Choice("the fox")


def test_choices_stand_in_the_order_of_their_numbers() -> None:
    """Where they have some."""
    body = chat("b", "a")
    body["choices"][0]["index"], body["choices"][1]["index"] = 1, 0
    assert [choice.text for choice in choices(body, 2)] == ["a", "b"]
    for choice in body["choices"]:
        choice["index"] = "first"
    assert [choice.text for choice in choices(body, 2)] == ["b", "a"]


def test_what_did_not_come_says_so() -> None:
    found = choices({"choices": [chat("a")["choices"][0], "b", None]}, 3)
    assert [(choice.problem, choice.detail) for choice in found] == [("", "")] + [(UNANSWERED, "1 of 3 answers came")] * 2

"""What is passed on to a teacher, what it can cost at most, and what the answer is filed under."""

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.unit.gateway.conftest import teacher_spec

from distillery.api.budget import BudgetTeacher
from distillery.gateway.errors import Refused
from distillery.gateway.question import Question, Route, read_question

TEACHER = BudgetTeacher.model_validate(teacher_spec("https://api.example.com/v1"))
USER = [{"role": "user", "content": "6*7?"}]


def read(route: Route = "chat/completions", sample: str | None = None, **body: Any) -> Question:
    given = {"model": "gpt-x", **({"messages": USER} if route == "chat/completions" else {"prompt": "6*7?"}), **body}
    return read_question(route, json.dumps(given).encode(), TEACHER, sample)


REFUSED = [
    # parameters, the one that is named
    ({"model": "gpt-4"}, "model"),
    ({"model": None}, "model"),
    ({"tools": []}, "tools"),
    ({"tool_choice": "auto"}, "tool_choice"),
    ({"functions": []}, "functions"),
    ({"web_search_options": {}}, "web_search_options"),
    ({"modalities": ["audio"]}, "modalities"),
    ({"audio": {}}, "audio"),
    ({"prediction": {}}, "prediction"),
    ({"service_tier": "priority"}, "service_tier"),
    ({"store": True}, "store"),
    ({"user": "me"}, "user"),
    ({"logit_bias": {}}, "logit_bias"),
    ({"best_of": 3}, "best_of"),
    ({"echo": True}, "echo"),
    ({"n": 65}, "n"),
    ({"n": 0}, "n"),
    ({"n": True}, "n"),
    ({"n": 1.0}, "n"),
    ({"temperature": "0"}, "temperature"),
    ({"temperature": -1}, "temperature"),
    ({"top_p": 1.5}, "top_p"),
    ({"stop": []}, "stop"),
    ({"stop": ["a"] * 5}, "stop"),
    ({"stop": [1]}, "stop"),
    ({"seed": "x"}, "seed"),
    ({"logprobs": 3}, "logprobs"),
    ({"top_logprobs": 21}, "top_logprobs"),
    ({"max_tokens": 0}, "max_tokens"),
    ({"max_completion_tokens": "many"}, "max_completion_tokens"),
    ({"response_format": {"type": "grammar"}}, "response_format"),
    ({"reasoning_effort": "heroic"}, "reasoning_effort"),
    ({"stream": "yes"}, "stream"),
    ({"stream_options": {"include_usage": True}}, "stream_options"),
    ({"stream": True, "stream_options": {"other": True}}, "stream_options"),
    ({"prompt": "x"}, "prompt"),
    ({"messages": []}, "messages"),
    ({"messages": "hello"}, "messages"),
    ({"messages": ["hello"]}, "messages[0]"),
    ({"messages": [{"role": "tool", "content": "x"}]}, "messages[0].role"),
    ({"messages": [{"role": "user"}]}, "messages[0].content"),
    ({"messages": [{"role": "user", "content": None}]}, "messages[0].content"),
    ({"messages": [*USER, {"role": "assistant", "content": "x", "tool_calls": []}]}, "messages[1].tool_calls"),
    ({"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x"}}]}]}, "messages[0].content[0].type"),
    ({"messages": [{"role": "user", "content": [{"type": "input_audio"}]}]}, "messages[0].content[0].type"),
    ({"messages": [{"role": "user", "content": [{"type": "text", "text": 3}]}]}, "messages[0].content[0].text"),
]  # fmt: skip


@pytest.mark.parametrize(("parameters", "named"), REFUSED)
def test_what_could_cost_more_than_is_held_is_refused_by_name(parameters: dict[str, Any], named: str) -> None:
    with pytest.raises(Refused) as told:
        read(**parameters)
    assert told.value.param == named
    assert told.value.message.startswith(f"{named}: ")
    assert told.value.status == (404 if named == "model" else 400)


@pytest.mark.parametrize("raw", [b"", b"[]", b"{", b"\xff", b'{"model": NaN}', b"[" * 100_000])
def test_what_is_no_json_is_refused(raw: bytes) -> None:
    with pytest.raises(Refused) as told:
        read_question("chat/completions", raw, TEACHER, None)
    assert told.value.status == 400


@pytest.mark.parametrize("prompt", [["a"], [1, 2], None])
def test_a_plain_completion_has_one_text(prompt: object) -> None:
    with pytest.raises(Refused) as told:
        read("completions", prompt=prompt)
    assert told.value.param == "prompt"


@pytest.mark.parametrize("sample", ["-1", "1.5", "x", "", "1" * 10, "²"])
def test_a_sample_is_a_number(sample: str) -> None:
    with pytest.raises(Refused):
        read(sample=sample)


SAME = [
    ({}, {"n": 1}),
    ({}, {"stream": True}),
    ({}, {"logprobs": False}),
    ({}, {"seed": None}),
    ({"temperature": 0}, {"temperature": 0.0}),
    ({"temperature": 0}, {"temperature": -0.0}),
    ({"stop": "a"}, {"stop": ["a"]}),
    ({}, {"max_tokens": 100}),
    ({"max_completion_tokens": 5000}, {"max_completion_tokens": 100}),
]


@pytest.mark.parametrize(("one", "other"), SAME)
def test_the_same_question_has_the_same_key(one: dict[str, Any], other: dict[str, Any]) -> None:
    assert key(read(**one)) == key(read(**other))


#: Literal: another spelling of a question would buy every team's answers again.
GOLDEN = [
    (
        {"n": 3, "temperature": 0.7, "stop": "x", "top_p": 0.9, "logprobs": True, "top_logprobs": 5},
        "7ae732223336567035935dfcf60941f4ac6602f151f522819c37775fa3c9ba3f",
    ),
    (
        {"sample": "2", "messages": [{"role": "user", "content": [{"type": "text", "text": "a"}]}]},
        "32ea5e9041fafad39fd8244068c1eade6033b06b11165fb144f5b7ead074ecf3",
    ),
    (
        {"route": "completions", "logprobs": 2, "max_tokens": 7},
        "5ac224bbbd5db1cb3d5c1b06405972e8b3c35eb94a018c4c501612f96c55a044",
    ),
]


@pytest.mark.parametrize(("parameters", "golden"), GOLDEN)
def test_keys_stay_what_they_are(parameters: dict[str, Any], golden: str) -> None:
    assert key(read(**parameters)) == golden


def test_parts_of_a_text_go_on_as_type_and_text_alone() -> None:
    """Some servers read a price from the rest (cache_control)."""
    parts = [{"type": "text", "text": "a", "cache_control": {"type": "ephemeral"}}, {"text": "b", "type": "text", "x": [1]}]
    question = read(messages=[{"role": "user", "content": parts, "name": "n"}])
    content = [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]
    assert question.body["messages"] == [{"role": "user", "content": content, "name": "n"}]


@pytest.mark.parametrize(
    ("raw", "named"),
    [
        ('"temperature": 1e999', "temperature"),
        (f'"temperature": 1{"0" * 400}', "temperature"),
        ('"stop": "\\ud800"', "stop"),
        ('"response_format": {"type": "json_schema", "x": 1e999}', "response_format"),
        ('"response_format": {"type": "json_schema", "x": "\\udc00"}', "response_format"),
        ('"response_format": {"type": "json_schema", "\\ud800": 1}', "response_format"),
        ('"response_format": {"type": "json_schema", "x": ' + "[" * 100 + "]" * 100 + "}", None),
        ('"messages": [{"role": ["user"], "content": "x"}]', "messages[0].role"),
        ('"messages": [{"role": "user", "content": [{"type": {}}]}]', "messages[0].content[0].type"),
    ],
)
def test_what_no_teacher_can_be_sent_is_refused_before_anything_is_held(raw: str, named: str | None) -> None:
    body = f'{{"model": "gpt-x", "messages": [{{"role": "user", "content": "?"}}], {raw}}}'
    with pytest.raises(Refused) as told:
        read_question("chat/completions", body.encode(), TEACHER, None)
    assert (told.value.status, told.value.param) == (400, named)


@pytest.mark.parametrize(
    "parameters",
    [
        {"model": "m" * 9000}, {"n": "n" * 9000}, {"n": 10**4000}, {"m" * 9000: 1}, {"temperature": [["m" * 300] * 40] * 40},
        {"messages": [{"role": "m" * 9000}]}, {"messages": [{"role": "user", "m" * 9000: 1}]}, {"sample": "m" * 9000},
    ],
)  # fmt: skip
def test_little_of_what_was_sent_is_told_back(parameters: dict[str, Any]) -> None:
    with pytest.raises(Refused) as told:
        read(**parameters)
    assert len(told.value.text()) < 900
    assert "m" * 200 not in told.value.text()


OTHER = [
    {"temperature": 1},
    {"top_p": 0.9},
    {"seed": 1},
    {"n": 2},
    {"stop": "x"},
    {"logprobs": True},
    {"top_logprobs": 5},
    {"max_tokens": 99},
    {"presence_penalty": 1},
    {"reasoning_effort": "low"},
    {"response_format": {"type": "json_object"}},
    {"messages": [{"role": "user", "content": "6*8?"}]},
    {"messages": [{"role": "system", "content": "6*7?"}]},
    {"sample": "1"},
]


def test_whatever_changes_the_answer_changes_the_key() -> None:
    keys = {key(read(**parameters)) for parameters in ({}, *OTHER)}
    keys |= {read().key("https://other/v1", "openai", "s"), read().key(TEACHER.base_url, "other", "s"), key(read(), "t")}
    keys.add(key(read("completions")))
    assert len(keys) == len(OTHER) + 5


def key(question: Question, scope: str = "s") -> str:
    return question.key(TEACHER.base_url, "openai", scope)


def test_servers_of_an_older_api_get_the_bound_under_its_older_name() -> None:
    older = TEACHER.model_copy(update={"parameter": "max_tokens"})
    body = read_question("chat/completions", json.dumps({"model": "gpt-x", "messages": USER}).encode(), older, None).body
    assert body["max_tokens"] == 100
    assert "max_completion_tokens" not in body


@given(st.lists(st.text(max_size=40), min_size=1, max_size=4), st.integers(1, 64), st.integers(1, 200))
@settings(max_examples=200)
def test_the_bound_is_at_least_one_token_a_byte_for_each_answer(texts: list[str], n: int, most: int) -> None:
    messages = [{"role": "user", "content": text} for text in texts]
    question = read(messages=messages, n=n, max_tokens=most)
    given = sum(len(text.encode()) for text in texts)
    assert question.input_tokens >= given
    assert question.tokens >= n * (given + min(most, 100))


def test_a_text_that_grows_when_it_is_normalised_is_counted_grown() -> None:
    question = read(messages=[{"role": "user", "content": "\ufdfa" * 10}])
    assert question.input_tokens >= 10 * len("صلى الله عليه وسلم".encode())


def test_half_a_surrogate_pair_is_refused() -> None:
    with pytest.raises(Refused):
        read_question("chat/completions", b'{"model":"gpt-x","messages":[{"role":"user","content":"\\ud800"}]}', TEACHER, None)

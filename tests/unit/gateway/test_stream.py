"""Server-sent events: cut in any way they are the same, and put together they are the whole answer."""

import json
from itertools import pairwise
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from tests.unit.gateway.teacher_double import completion, pieces

from distillery.gateway.teachers.stream import Assembly, Events, replay

BODY: dict[str, Any] = {"messages": [], "n": 2, "logprobs": True, "stream_options": {"include_usage": True}}
ANSWER = completion(BODY, "déjà vu")


def wire(end: bytes = b"\n", comment: bytes = b": ping") -> bytes:
    found = [comment + end + b"event: message" + end + b"data: " + json.dumps(piece).encode() + end + end for piece in pieces(BODY, ANSWER)]
    return b"".join([*found, b"data: [DONE]" + end + end])


@given(st.lists(st.integers(0, len(wire())), max_size=8), st.sampled_from([b"\n", b"\r\n"]))
def test_events_are_the_same_however_the_network_cuts_them(cuts: list[int], end: bytes) -> None:
    content, events = wire(end), Events()
    places = [0, *sorted(cuts), len(content)]
    found = [data for a, b in pairwise(places) for data in events.feed(content[a:b])]
    assert [*map(json.loads, found[:-1])] == pieces(BODY, ANSWER)
    assert found[-1] == b"[DONE]"
    assert list(events.end()) == []


def test_data_of_several_lines_is_one_event_and_a_missing_last_blank_line_is_forgiven() -> None:
    events = Events()
    assert list(events.feed(b"data: a\ndata:b\n\ndata: c")) == [b"a\nb"]
    assert list(events.end()) == [b"c"]


def test_the_chunks_make_the_whole_answer() -> None:
    assembly = Assembly(chat=True)
    *most, usage = pieces(BODY, ANSWER)
    for piece in most:
        assembly.add(piece)
    assert not assembly.billed
    assembly.add(usage)
    assert assembly.billed
    assert assembly.answer(done=False) == ANSWER


def test_reasoning_and_refusals_are_kept() -> None:
    assembly = Assembly(chat=True)
    for delta in ({"reasoning_content": "so "}, {"reasoning_content": "it is"}, {"content": "42"}, {"refusal": "no"}):
        assembly.add({"choices": [{"index": 0, "delta": delta}]})
    message = assembly.answer(done=True)["choices"][0]["message"]
    assert message == {"role": "assistant", "content": "42", "reasoning_content": "so it is", "refusal": "no"}


def test_log_probabilities_of_plain_completions_are_joined() -> None:
    assembly = Assembly(chat=False)
    for token in ("a", "b"):
        assembly.add(
            {"choices": [{"index": 0, "text": token, "logprobs": {"tokens": [token], "token_logprobs": [-1.0], "top_logprobs": None}}]}
        )
    choice = assembly.answer(done=True)["choices"][0]
    assert choice["text"] == "ab"
    assert choice["logprobs"] == {"tokens": ["a", "b"], "token_logprobs": [-1.0, -1.0], "top_logprobs": None}


def test_a_kept_answer_is_replayed_so_that_it_makes_itself_again() -> None:
    for body in (BODY, {**BODY, "messages": None}):  # chat, and plain
        chat = body["messages"] is not None
        answer = completion({k: v for k, v in body.items() if v is not None}, "déjà vu")
        events, assembly = Events(), Assembly(chat)
        found = [data for part in replay(answer, chat, usage_chunk=True) for data in events.feed(part)]
        for data in found[:-1]:
            assembly.add(json.loads(data))
        assert found[-1] == b"[DONE]"
        assert assembly.answer(done=False) == answer


def test_a_long_stream_of_small_pieces_is_put_together_once() -> None:
    """Work that grows with the square of the length would take minutes here, and hold up everybody's requests."""
    assembly, events = Assembly(chat=True), Events()
    for _ in range(100_000):
        assembly.add({"choices": [{"index": 0, "delta": {"content": "abcdefgh"}, "logprobs": {"content": [{}]}}]})
    assembly.add({"choices": [{"index": 0, "finish_reason": "stop"}], "usage": {"prompt_tokens": 1}})
    [choice] = assembly.answer(done=True)["choices"]
    assert choice["message"]["content"] == "abcdefgh" * 100_000
    assert len(choice["logprobs"]["content"]) == 100_000
    found = [data for piece in [b"data: "] + [b"x" * 100] * 40_000 + [b"\n\n"] for data in events.feed(piece)]
    assert found == [b"x" * 4_000_000]

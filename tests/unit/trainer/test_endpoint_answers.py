"""What becomes of the teacher's answers: which are learned from, which are dropped and why, and what is asked of whom."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from tests.unit.trainer.gateway import FakeGateway, chat, prompt_of, serving
from tests.unit.trainer.pipeline import finished
from tests.unit.trainer.test_endpoint_traces import PROMPTS, WORDS, execute, lines, spec, told

from distillery.api.result import USER_MISTAKE
from distillery_trainer.examples import read_lines


def bad(body: dict[str, Any], attempt: int) -> Any:
    """Three words are refused, cut and left without text."""
    word = prompt_of(body).split()[1]
    if prompt_of(body).startswith("tell"):
        return chat(f"{word} it", finish="length")
    if word == "fox":
        return chat("", refusal="I cannot talk of foxes.")
    if word == "dog":
        return chat("dog it", finish="length")
    if word == "city":
        return (400, "invalid_request_error", {})
    return told(body, attempt)


def test_rows_that_fail_are_listed_with_their_reasons(tmp_path: Path) -> None:
    """A held-out answer that was cut is one: the student's is cut there too."""
    with serving(FakeGateway(bad)) as gateway:
        code, place = execute(tmp_path, gateway, "traces", spec(tmp_path, endpoint={"maxFailureRatio": "0.2"}))
        assert code == 0, place.result().message
    manifest, files = finished(tmp_path, "traces")
    assert [(line["id"], line["reason"], line.get("detail")) for line in lines(files, "dropped.jsonl")] == [
        ("fox", "refused", "I cannot talk of foxes."),
        ("dog", "cut", "finish_reason length"),
        ("city", "unanswered", "the gateway's sentence on invalid_request_error"),
    ]
    assert manifest.lineage["dropped"] == {"refused": 1, "cut": 1, "unanswered": 1}
    assert [row["teacher_answer"] for row in lines(files, "heldout.jsonl")] == [f"{word} it" for word in WORDS[:4]]


def test_too_many_failures_end_the_stage_with_the_commonest_reasons(tmp_path: Path) -> None:
    """The next run asks again what had no answer, and nothing else."""
    with serving(FakeGateway(bad)) as gateway:
        code, place = execute(tmp_path, gateway, "traces", spec(tmp_path, endpoint={"maxFailureRatio": "0.1"}))
        assert (code, place.result().reason) == (USER_MISTAKE, "TeacherFailed")
        message = place.result().message
        assert "of 16 rows failed, more than maxFailureRatio 0.1 allows" in message
        assert "1 refused (I cannot talk of foxes.)" in message
        before = len(gateway.asked)
        gateway.script = told
        code, place = execute(tmp_path, gateway, "traces", spec(tmp_path, endpoint={"maxFailureRatio": "0.2"}))
        assert code == 0, place.result().message
    assert "city" in {prompt_of(body).split()[1] for body in gateway.asked[before:]}
    assert not {"fox", "dog"} & {prompt_of(body).split()[1] for body in gateway.asked[before:] if prompt_of(body).startswith("say")}


@pytest.mark.parametrize(
    ("answer", "completion", "reasoning"),
    [
        (chat("<think>a fox?\nyes</think>\n\nfox it is"), "fox it is", "a fox?\nyes"),
        (chat("a fox?</think>fox it is"), "fox it is", "a fox?"),
        (chat("fox it is", reasoning_content="a fox"), "fox it is", "a fox"),
        (chat("fox <think> it is"), "fox <think> it is", None),
        ({"choices": [{"finish_reason": "stop", "message": {"content": [{"type": "text", "text": "fox"}]}}]}, "fox", None),
    ],
)
def test_reasoning_is_kept_apart(tmp_path: Path, answer: Any, completion: str, reasoning: str | None) -> None:
    with serving(FakeGateway(lambda body, attempt: answer if prompt_of(body) == "say fox" else told(body, attempt))) as gateway:
        assert execute(tmp_path, gateway, "traces", spec(tmp_path))[0] == 0
    row = lines(finished(tmp_path, "traces")[1], "train.jsonl")[0]
    assert (row["completion"], row.get("reasoning")) == (completion, reasoning)


def test_any_text_survives(tmp_path: Path) -> None:
    """Separators of lines in Unicode are none in JSONL; half an emoji is no text."""
    texts = {"say fox": "a\u2028b\u0085c\nd\x0be", "say dog": "\ud83d"}

    def script(body: dict[str, Any], attempt: int) -> Any:
        return chat(texts[prompt_of(body)]) if prompt_of(body) in texts else told(body, attempt)

    with serving(FakeGateway(script)) as gateway:
        code, place = execute(tmp_path, gateway, "traces", spec(tmp_path, endpoint={"maxFailureRatio": "0.1"}))
        assert code == 0, place.result().message
    _, files = finished(tmp_path, "traces")
    assert read_lines(files / "train.jsonl")[0]["completion"] == texts["say fox"]
    assert [line["id"] for line in read_lines(files / "dropped.jsonl")] == ["dog"]


def test_an_answer_that_never_left_its_reasoning_is_cut(tmp_path: Path) -> None:
    thinking = chat("<think>a fox, or")
    with serving(FakeGateway(lambda body, attempt: thinking if prompt_of(body) == "say fox" else told(body, attempt))) as gateway:
        assert execute(tmp_path, gateway, "traces", spec(tmp_path, endpoint={"maxFailureRatio": "0.1"}))[0] == 0
    line = lines(finished(tmp_path, "traces")[1], "dropped.jsonl")[0]
    assert (line["id"], line["reason"], line["detail"]) == ("fox", "cut", "it ended within its reasoning")


SAMPLED = {"sampling": {"samples": 3, "temperature": "0.7", "topP": "0.9", "seed": 5, "stop": ["\n"], "maxCompletionTokens": 9}}


def numbered(body: dict[str, Any], attempt: int) -> Any:
    """Every choice is another."""
    return chat(*(f"answer {at}" for at in range(body.get("n", 1))))


@pytest.mark.parametrize("knows_n", [True, False])
def test_samples_become_rows(tmp_path: Path, knows_n: bool) -> None:
    """A server without `n` is asked for each by its number."""

    def script(body: dict[str, Any], attempt: int) -> Any:
        return numbered(body, attempt) if knows_n else chat(f"answer {body['seed'] - 5}")

    with serving(FakeGateway(script)) as gateway:
        code, place = execute(tmp_path, gateway, "traces", spec(tmp_path, endpoint=SAMPLED))
        assert code == 0, place.result().message
    manifest, files = finished(tmp_path, "traces")
    rows = [(row["id"], row["completion"]) for row in lines(files, "train.jsonl")][:3]
    assert rows == [("fox#0", "answer 0"), ("fox#1", "answer 1"), ("fox#2", "answer 2")]
    body = next(body for body in gateway.asked if prompt_of(body) == "say fox")
    assert {name: body[name] for name in body if name not in ("model", "messages")} == {
        "max_completion_tokens": 9, "temperature": 0.7, "top_p": 0.9, "n": 3, "stop": ["\n"], "seed": 5,
    }  # fmt: skip
    assert manifest.lineage["usage"]["requests"] == (16 if knows_n else 12 * 3 + 4)
    assert set(gateway.samples) == ({None} if knows_n else {None, "1", "2"})


def test_a_model_that_takes_no_temperature_is_asked_without(tmp_path: Path) -> None:
    """For the held-out rows; for the training rows the job says what it wants."""

    def script(body: dict[str, Any], attempt: int) -> Any:
        return (400, "unsupported temperature", {}) if "temperature" in body else told(body, attempt)

    with serving(FakeGateway(script)) as gateway:
        code, place = execute(tmp_path, gateway, "traces", spec(tmp_path, endpoint={"sampling": {"temperature": "1"}}))
        assert code == 0, place.result().message
    assert len(gateway.bought) == 16


def test_plain_text_goes_to_text_completions(tmp_path: Path) -> None:
    """data.chatTemplate none: a prompt is a text that goes on."""

    def script(body: dict[str, Any], attempt: int) -> Any:
        return {"choices": [{"index": 0, "finish_reason": "stop", "text": " it is"}]}

    job = spec(tmp_path)
    job["data"]["chatTemplate"] = "none"
    with serving(FakeGateway(script)) as gateway:
        code, place = execute(tmp_path, gateway, "traces", job)
        assert code == 0, place.result().message
    assert set(gateway.paths) == {"/v1/completions"}
    assert gateway.asked[0] == {"model": "gpt-x", "prompt": "say fox", "max_tokens": 512, "temperature": 0.0}
    assert lines(finished(tmp_path, "traces")[1], "train.jsonl")[0]["completion"] == " it is"


def test_rows_that_have_a_completion_are_not_asked(tmp_path: Path) -> None:
    rows = [{**row, "completion": "given"} for row in PROMPTS]
    job = spec(tmp_path, rows=rows)
    job["data"]["train"]["format"] = "promptCompletion"
    with serving(FakeGateway(told)) as gateway:
        assert execute(tmp_path, gateway, "traces", job)[0] == 0
    assert {prompt_of(body).split()[0] for body in gateway.asked} == {"tell"}


def test_rows_are_held_out_of_the_training_rows_where_there_are_no_others(tmp_path: Path) -> None:
    job = spec(tmp_path)
    del job["data"]["evaluation"]
    with serving(FakeGateway(told)) as gateway:
        assert execute(tmp_path, gateway, "traces", job)[0] == 0
    _, files = finished(tmp_path, "traces")
    held = lines(files, "heldout.jsonl")
    assert len(held) == 1
    assert held[0]["completion"] == held[0]["teacher_answer"] == f"{held[0]['id']} it is"
    assert len(lines(files, "train.jsonl")) == 11

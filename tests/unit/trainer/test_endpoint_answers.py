"""What becomes of the teacher's answers: which are learned from, which are dropped and why, and what is asked of whom."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
from tests.unit.trainer.gateway import COST, FakeGateway, chat, prompt_of, serving
from tests.unit.trainer.pipeline import finished
from tests.unit.trainer.test_endpoint_traces import PROMPTS, WORDS, execute, lines, spec, told

from distillery.api.money import usd
from distillery.api.result import USER_MISTAKE
from distillery_trainer.data.examples import read_lines


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
        (chat("a fox?\n</think>\n\nfox it is"), "fox it is", "a fox?"),
        (chat("the tag </think> ends it"), "the tag </think> ends it", None),
        (chat("\n\n42", reasoning_content="a fox"), "42", "a fox"),
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


def single(body: dict[str, Any], attempt: int) -> Any:
    """One choice, whatever `n` is."""
    return chat("answer")


SIX = [{"id": word, "prompt": f"say {word}"} for word in WORDS[:6]]


def test_a_server_that_gives_one_choice_is_paid_for_each_sample_once(tmp_path: Path) -> None:
    """6 rows with 3 samples are 18 rows and 18 answers; the run after a lost stage pays nothing."""
    job = spec(tmp_path, rows=SIX, endpoint={"sampling": {"samples": 3, "temperature": "1"}})
    held = len(lines_of_held_out(job))
    with serving(FakeGateway(single)) as gateway:
        for run in range(2):
            shutil.rmtree(tmp_path / "out", ignore_errors=True)
            shutil.rmtree(tmp_path / "work-0", ignore_errors=True)
            code, place = execute(tmp_path, gateway, "traces", job)
            assert code == 0, place.result().message
            manifest, files = finished(tmp_path, "traces")
            assert len(lines(files, "train.jsonl")) == 18
            assert len(gateway.bought) == 18 + held
            assert manifest.lineage["usage"]["requests"] == (0 if run else 18 + held)
            assert manifest.lineage["usage"]["cost"] == ("0.00" if run else usd(COST * (18 + held)))
    assert {(body.get("n"), sample) for body, sample in zip(gateway.asked, gateway.samples, strict=True) if "say" in prompt_of(body)} == {
        (3, None), (None, "1"), (None, "2"),
    }  # fmt: skip


def lines_of_held_out(job: dict[str, Any]) -> list[str]:
    """The held-out rows of a job."""
    return Path(job["data"]["evaluation"]["uri"].removeprefix("file://")).read_text().splitlines()


@pytest.mark.parametrize(
    ("trouble", "asked"),
    [((400, "invalid_request_error", {}), 1), ((502, "in_doubt", {}), 2)],
    ids=["refused", "in doubt"],
)
def test_samples_that_came_are_learned_from_where_others_did_not(tmp_path: Path, trouble: Any, asked: int) -> None:
    """They are paid for. The missing one is listed with its reason."""
    job = spec(tmp_path, rows=SIX, endpoint={"sampling": {"samples": 3, "temperature": "1"}, "maxFailureRatio": "0.1"})
    with serving(FakeGateway(single)) as gateway:
        gateway.script = lambda body, attempt: (
            trouble if prompt_of(body) == "say dog" and gateway.samples[-1] == "2" else single(body, attempt)
        )
        code, place = execute(tmp_path, gateway, "traces", job)
        assert code == 0, place.result().message
    manifest, files = finished(tmp_path, "traces")
    assert [row["id"] for row in lines(files, "train.jsonl") if row["id"].startswith("dog")] == ["dog#0", "dog#1"]
    assert [(line["id"], line["reason"], line["detail"]) for line in lines(files, "dropped.jsonl")] == [
        ("dog#2", "unanswered", f"the gateway's sentence on {trouble[1]}")
    ]
    assert manifest.lineage["usage"]["requests"] == len(gateway.bought)
    assert manifest.lineage["usage"]["cost"] == usd(COST * len(gateway.bought))
    assert sum(prompt_of(body) == "say dog" and sample == "2" for body, sample in zip(gateway.asked, gateway.samples, strict=True)) == asked


def test_a_run_after_too_many_failures_asks_for_the_missing_samples_alone(tmp_path: Path) -> None:
    """What the failed run has paid is not paid again."""
    job = spec(tmp_path, rows=SIX, endpoint={"sampling": {"samples": 3, "temperature": "1"}, "maxFailureRatio": "0"})
    broken = True

    def script(body: dict[str, Any], attempt: int) -> Any:
        return (400, "invalid_request_error", {}) if broken and gateway.samples[-1] == "2" else single(body, attempt)

    with serving(FakeGateway(single)) as gateway:
        gateway.script = script
        code, place = execute(tmp_path, gateway, "traces", job)
        assert (code, place.result().reason) == (USER_MISTAKE, "TeacherFailed")
        broken = False
        code, place = execute(tmp_path, gateway, "traces", job)
        assert code == 0, place.result().message
    assert len(gateway.bought) == 18 + 4
    assert len(lines(finished(tmp_path, "traces")[1], "train.jsonl")) == 18


def test_a_wait_between_two_samples_loses_none_that_is_paid(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nor asks for it again."""
    monkeypatch.setattr("distillery_trainer.teacher.endpoint.pace._FIRST_DELAY", 0.001)
    job = spec(tmp_path, rows=SIX, endpoint={"sampling": {"samples": 3, "temperature": "1"}})

    def script(body: dict[str, Any], attempt: int) -> Any:
        busy = gateway.samples[-1] == "1" and attempt == 0
        return (429, "rate_limit_exceeded", {"Retry-After": "0.01"}) if busy else single(body, attempt)

    with serving(FakeGateway(single)) as gateway:
        gateway.script = script
        code, place = execute(tmp_path, gateway, "traces", job)
        assert code == 0, place.result().message
    usage = finished(tmp_path, "traces")[0].lineage["usage"]
    assert (usage["requests"], usage["cacheHits"], usage["cost"]) == (22, 0, usd(COST * 22))
    assert len(gateway.asked) == 22 + 6


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

"""Log-probabilities of an API: taken where the tokens are certain, kept in the store, learned from."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from tests.unit.trainer import tiny
from tests.unit.trainer.gateway import FakeGateway, prompt_of, serving
from tests.unit.trainer.pipeline import finished
from tests.unit.trainer.test_endpoint_traces import WORDS, execute, lines, spec
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from distillery_trainer.data.templates import Renderer, template_of
from distillery_trainer.teacher.endpoint.distribution import INCOMPLETE, NONE_GIVEN, NOT_NORMALISED, OTHER_TOKENS, Distribution, Reader
from distillery_trainer.teacher.endpoint.token_bytes import TokenBytes

K = 4
RESPONSE = {"rounds": [{"objectives": [{"response": {"temperature": "1", "weight": "1"}}]}]}


class Served:
    """A model behind an API: it answers as it is told to, and gives its own log-probabilities of that, in the way of llama.cpp."""

    def __init__(self, model: PreTrainedModel, words: PreTrainedTokenizerFast) -> None:
        self.model, self.words, self.table = model, words, TokenBytes(words)
        self.renderer = Renderer(words, template_of(words))
        self.numbered = True

    def logits(self, prompt: str, text: str) -> torch.Tensor:
        """[completion tokens, vocab]."""
        ask, answer = self.renderer.prompt_ids(prompt), self.renderer.completion_ids(text)
        with torch.inference_mode():
            return self.model(torch.tensor([ask + answer])).logits[0, len(ask) - 1 : -1]

    def entry(self, index: int, logprob: float) -> dict[str, Any]:
        """A token as the server names it: nothing stands for a special one."""
        data = b"" if index in self.table.special else self.table.of(index) or b""
        number = {"id": index} if self.numbered else {}
        return {**number, "token": data.decode(errors="replace"), "bytes": list(data), "logprob": logprob}

    def logprobs(self, prompt: str, text: str) -> dict[str, Any]:
        """Of each token, the end of the turn included."""
        values, ids = self.logits(prompt, text).log_softmax(-1).topk(K)
        content = []
        for index, tops, numbers in zip(self.renderer.completion_ids(text), ids.tolist(), values.tolist(), strict=True):
            alternatives = [self.entry(i, value) for i, value in zip(tops, numbers, strict=True)]
            content.append({**self.entry(index, -1.0), "top_logprobs": alternatives})
        return {"content": content}

    def __call__(self, body: dict[str, Any], attempt: int) -> Any:
        prompt = prompt_of(body)
        text = f"{prompt.split()[1]} it is"
        choice = {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": text}}
        if body.get("logprobs"):
            choice["logprobs"] = self.logprobs(prompt, text)
        return {"model": "m", "choices": [choice]}


@pytest.fixture
def served() -> Served:
    """A random model."""
    return Served(tiny.model(), tiny.tokenizer())


def job(root: Path, served: Served, **more: Any) -> dict[str, Any]:
    """A job that learns from it."""
    tiny.save(root / "tokenizer", served.model, served.words)
    (root / "tokenizer/model.safetensors").unlink()
    endpoint = {
        "tokenizer": {"uri": f"file://{root}/tokenizer"},
        "sampling": {"temperature": "1", "topLogprobs": K, "maxCompletionTokens": 16},
    }
    student = {
        "scratch": {"numHiddenLayers": 1, "hiddenSize": 32, "intermediateSize": 64, "numAttentionHeads": 4, "maxPositionEmbeddings": 64}
    }
    return spec(root, endpoint=endpoint, student=student, method=RESPONSE, **more)


def test_the_signal_is_the_top_of_the_teachers_distribution(tmp_path: Path, served: Served) -> None:
    with serving(FakeGateway(served)) as gateway:
        code, place = execute(tmp_path, gateway, "traces", job(tmp_path, served))
        assert code == 0, place.result().message
        asked = gateway.asked
    assert all(("logprobs" in body) == prompt_of(body).startswith("say") for body in asked)
    manifest, files = finished(tmp_path, "traces")
    assert manifest.lineage["signal"] == {"kind": "topK", "k": K, "rows": 12, "without": {}}
    assert {"config.json", "tokenizer.json"} <= {path.name for path in (files / "teacher").iterdir()}
    for row in lines(files, "train.jsonl"):
        at, prompt = row["signal"], f"say {row['id']}"
        assert row["completion_ids"] == served.renderer.completion_ids(row["completion"])
        assert at["length"] == len(row["completion_ids"])
        shard = load_file(files / at["shard"])
        part = slice(at["offset"], at["offset"] + at["length"])
        log_p = served.logits(prompt, row["completion"]).log_softmax(-1)
        values, ids = log_p.topk(K)
        assert torch.equal(shard["ids"][part].long(), ids)
        torch.testing.assert_close(shard["logprobs"][part], values)
        torch.testing.assert_close(shard["tail"][part], 1 - values.exp().sum(-1), rtol=1e-4, atol=1e-6)


def test_a_student_learns_from_it(tmp_path: Path, served: Served) -> None:
    whole = job(tmp_path, served)
    whole["training"] = {**whole["training"], "maxSteps": 40}
    with serving(FakeGateway(served)) as gateway:
        for kind in ("preflight", "traces", "curate", "train", "evaluate"):
            code, place = execute(tmp_path, gateway, kind, whole)
            assert code == 0, (kind, place.result().message)
    _, files = finished(tmp_path, "train")
    losses = [line["response"] for line in lines(files, "log.jsonl")]
    assert losses[-1] < 0.5 * losses[0]
    assert [row.metric for row in (place.result().evaluation or pytest.fail("no table")).results] == [
        "exactMatch", "labelAccuracy", "retention", "perplexity",
    ]  # fmt: skip


def test_rows_whose_tokens_differ_are_learned_from_as_text(tmp_path: Path, served: Served) -> None:
    """The server's tokenizer cuts every second answer into bytes."""

    def script(body: dict[str, Any], attempt: int) -> Any:
        said = served(body, attempt)
        choice = said["choices"][0]
        if "logprobs" in choice and WORDS.index(prompt_of(body).split()[1]) % 2:
            entries = choice["logprobs"]["content"]
            choice["logprobs"]["content"] = [{**entries[0], "token": chr(byte), "bytes": [byte], "id": None} for byte in b"it"] + entries
        return said

    whole = job(tmp_path, served)
    with serving(FakeGateway(script)) as gateway:
        for kind in ("traces", "curate", "train"):
            code, place = execute(tmp_path, gateway, kind, whole)
            assert code == 0, (kind, place.result().message)
    manifest, files = finished(tmp_path, "traces")
    assert manifest.lineage["signal"]["without"] == {OTHER_TOKENS: 6}
    assert "log-probabilities of 6 of 12 rows, the others are learned from as text (6 otherTokens)" in manifest.result.message
    assert [row["signal"] is None for row in lines(files, "train.jsonl")] == [bool(at % 2) for at in range(12)]


def test_a_row_whose_other_sample_did_not_come_is_learned_from_as_text(tmp_path: Path, served: Served) -> None:
    """Its distribution is not kept, because another run asks again; that is counted."""

    def script(body: dict[str, Any], attempt: int) -> Any:
        refused = prompt_of(body) == "say dog" and gateway.samples[-1] == "1"
        return (400, "invalid_request_error", {}) if refused else served(body, attempt)

    whole = job(tmp_path, served)
    whole["teacher"]["endpoint"]["sampling"]["samples"] = 2
    with serving(FakeGateway(served)) as gateway:
        gateway.script = script
        code, place = execute(tmp_path, gateway, "traces", whole)
        assert code == 0, place.result().message
    manifest, files = finished(tmp_path, "traces")
    assert manifest.lineage["signal"]["without"] == {INCOMPLETE: 1}
    assert manifest.lineage["dropped"] == {"unanswered": 1}
    rows = {row["id"]: row for row in lines(files, "train.jsonl")}
    assert len(rows) == 2 * 12 - 1
    assert [name for name, row in rows.items() if row["signal"] is None] == ["dog#0"]


@pytest.fixture
def reader(served: Served) -> Reader:
    """Reads four alternatives."""
    return Reader(served.renderer, K)


def read(reader: Reader, served: Served, change: Any = None, text: str = "the fox") -> Distribution | str:
    """What is read of an answer after `change` of its entries."""
    given = json.loads(json.dumps(served.logprobs("say it", text)))
    return reader.read(text, {"content": change(given["content"])} if change else given)


def test_tokens_are_found_by_number_or_by_bytes(reader: Reader, served: Served) -> None:
    by_number = read(reader, served)
    served.numbered = False
    by_bytes = read(reader, served)
    assert isinstance(by_number, Distribution)
    assert isinstance(by_bytes, Distribution)
    assert len(by_bytes) == len(by_number) == len(served.renderer.completion_ids("the fox"))
    same = by_bytes.ids == by_number.ids
    # a special token without a name is in the tail
    assert np.isneginf(by_bytes.logprobs[~same]).all()


def test_the_end_of_the_turn_may_be_missing(reader: Reader, served: Served) -> None:
    found = read(reader, served, lambda content: content[:-1])
    assert isinstance(found, Distribution)
    assert len(found) == len(served.renderer.completion_ids("the fox")) - 1


def every(content: list[dict[str, Any]], logprob: float) -> list[dict[str, Any]]:
    """The entries with all alternatives alike."""
    return [{**entry, "top_logprobs": [{**top, "logprob": logprob} for top in entry["top_logprobs"]]} for entry in content]


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (lambda content: [], NONE_GIVEN),
        (lambda content: [{**entry, "top_logprobs": []} for entry in content], NONE_GIVEN),
        (lambda content: content[:-2], OTHER_TOKENS),
        (lambda content: [*content, content[-1]], OTHER_TOKENS),
        (lambda content: [{**content[0], "bytes": [120]}, *content[1:]], OTHER_TOKENS),
        (lambda content: every(content, 0.0), NOT_NORMALISED),
        (lambda content: every(content, -9999.0), NOT_NORMALISED),
    ],
)
def test_why_an_answer_has_no_distribution(reader: Reader, served: Served, change: Any, why: str) -> None:
    assert read(reader, served, change) == why


def test_an_unknown_alternative_counts_in_the_tail(reader: Reader, served: Served) -> None:
    found = read(reader, served, lambda content: [
        {**entry, "top_logprobs": [*entry["top_logprobs"][:-1], {"token": "Ω", "bytes": None, "logprob": -3.0}]} for entry in content
    ])  # fmt: skip
    assert isinstance(found, Distribution)
    assert (found.ids[:, -1] == found.ids[:, 0]).all()
    assert np.isneginf(found.logprobs[:, -1]).all()
    np.testing.assert_allclose(np.exp(found.logprobs).sum(-1) + found.tail, 1.0, rtol=1e-6)


def test_the_lists_of_text_completions_are_read(reader: Reader, served: Served) -> None:
    ids = served.renderer.completion_ids("the fox")[:-1]
    names = [(served.table.of(index) or b"").decode() for index in ids]
    found = reader.read("the fox", {"tokens": names, "top_logprobs": [{name: math.log(0.5), "x": math.log(0.25)} for name in names]})
    assert isinstance(found, Distribution)
    assert found.ids[:, 0].tolist() == ids
    np.testing.assert_allclose(found.tail, 0.25, rtol=1e-6)


@pytest.mark.parametrize("text", ["naïve 漢字 🙂", "a\n\tb  c", "<|im_end|> inside"])
def test_bytes_of_a_byte_level_vocabulary(text: str) -> None:
    words = tiny.tokenizer()
    table = TokenBytes(words)
    ids = words(text, add_special_tokens=False)["input_ids"]
    assert b"".join(table.of(index) or b"?" for index in ids) == text.encode()
    assert all(table.find(table.of(index) or b"") == index for index in ids)

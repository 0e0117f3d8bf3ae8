"""The traces stage, run as its pod runs it, on tiny random teachers."""

from __future__ import annotations

import json
import signal
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from tests.unit.trainer import tiny
from torch.nn import functional
from transformers import AutoTokenizer, CohereConfig, CohereForCausalLM, Gemma2Config, Gemma2ForCausalLM, PreTrainedModel

from distillery_trainer.runner.commit import fetch, read_manifest
from distillery_trainer.runner.manifest import Manifest
from distillery_trainer.signal import write
from distillery_trainer.stores import open_store

HASH = "a" * 64


def place(tmp_path: Path, teacher: PreTrainedModel, words: Any, rows: list[dict[str, Any]], **spec: Any) -> tiny.Place:
    """A job with these rows and this teacher."""
    tiny.save(tmp_path / "teacher", teacher, words)
    tiny.lines(tmp_path / "train.jsonl", rows)
    whole = tiny.spec(tmp_path, evaluation={"generation": {"maxNewTokens": 8, "batchSize": 4}})
    whole["teacher"]["model"]["sampling"] = {"maxCompletionTokens": 12}
    for name, value in spec.items():
        whole[name] = {**whole.get(name, {}), **value}
    return tiny.Place(tmp_path, whole)


def run(job: tiny.Place) -> tuple[Manifest, Path]:
    """The stage's manifest and its files."""
    code = job.execute("traces", HASH)
    assert code == 0, job.result().message
    store = open_store(job.job.spec.output.uri, "output", {})
    manifest = read_manifest(store, f"stages/traces-{HASH}")
    return manifest, fetch(store, f"stages/traces-{HASH}", manifest, job.root / "fetched")


def read(folder: Path, name: str) -> list[dict[str, Any]]:
    """The lines of a JSONL file."""
    return [json.loads(line) for line in (folder / name).read_text().splitlines()]


def of(folder: Path, row: dict[str, Any]) -> torch.Tensor:
    """A row's signal, [tokens, width]."""
    at = row["signal"]
    return load_file(folder / at["shard"])["signal"][at["offset"] : at["offset"] + at["length"]]


@pytest.mark.parametrize("family", ["llama", "qwen2", "gpt2"])
@pytest.mark.parametrize("kind", ["logits", "hiddenState"])
def test_signal_is_the_teachers_own_next_token_distribution(tmp_path: Path, family: str, kind: str) -> None:
    """Row by row, without batch or padding, the teacher gives the same logits at the positions that predict the completion."""
    teacher, words = tiny.model(family), tiny.tokenizer()
    method = {"rounds": [{"objectives": [{"response": {"signal": kind}}]}]}
    manifest, folder = run(place(tmp_path, teacher, words, tiny.PAIRS, method=method))
    assert manifest.lineage["signal"]["kind"] == kind
    for row in read(folder, "train.jsonl") + read(folder, "heldout.jsonl"):
        prompt = words.apply_chat_template([{"role": "user", "content": row["prompt"]}], add_generation_prompt=True, tokenize=False)
        prompt_ids = words(prompt, add_special_tokens=False)["input_ids"]
        assert row["completion_ids"] == [*words(row["completion"])["input_ids"], words.convert_tokens_to_ids("<|im_end|>")]
        with torch.inference_mode():
            logits = teacher(torch.tensor([prompt_ids + row["completion_ids"]])).logits[0, len(prompt_ids) - 1 : -1]
        kept = of(folder, row)
        if kind == "hiddenState":
            kept = functional.linear(kept, load_file(folder / "head.safetensors")["weight"])
        torch.testing.assert_close(kept, logits, rtol=1e-4, atol=1e-4)


def test_entropy_is_the_mean_over_completion_tokens(tmp_path: Path) -> None:
    """In nats per token, over the training rows."""
    manifest, folder = run(place(tmp_path, tiny.model(), tiny.tokenizer(), tiny.PAIRS))
    head = load_file(folder / "head.safetensors")["weight"]
    rows = torch.cat([of(folder, row) for row in read(folder, "train.jsonl")])
    entropy = torch.distributions.Categorical(logits=functional.linear(rows, head)).entropy().mean().item()
    assert manifest.metrics["teacherEntropy"] == pytest.approx(entropy, rel=1e-4)
    assert manifest.lineage["meanEntropy"] == manifest.metrics["teacherEntropy"]


SHAPE = {"vocab_size": 320, "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 1, "num_attention_heads": 4}


@pytest.mark.parametrize("make", ["gemma2", "cohere"])
def test_scale_and_cap_of_the_logits_are_written_down(tmp_path: Path, make: str) -> None:
    """softcap * tanh(scale * (h W^T) / softcap) repeats the logits of the families that have them."""
    torch.manual_seed(0)
    ids = {"pad_token_id": 2, "bos_token_id": 1, "eos_token_id": 2}
    if make == "gemma2":
        teacher: PreTrainedModel = Gemma2ForCausalLM(
            Gemma2Config(**SHAPE, **ids, num_key_value_heads=2, head_dim=16, final_logit_softcapping=2.0, initializer_range=0.3)
        )
    else:
        teacher = CohereForCausalLM(CohereConfig(**SHAPE, **ids, logit_scale=0.25, initializer_range=0.3))
    words = tiny.tokenizer()
    manifest, folder = run(place(tmp_path, teacher.eval(), words, tiny.PAIRS))
    told, row = manifest.lineage["signal"], read(folder, "heldout.jsonl")[0]
    prompt = words.apply_chat_template([{"role": "user", "content": row["prompt"]}], add_generation_prompt=True, tokenize=False)
    prompt_ids = words(prompt, add_special_tokens=False)["input_ids"]
    with torch.inference_mode():
        wanted = teacher(torch.tensor([prompt_ids + row["completion_ids"]])).logits[0, len(prompt_ids) - 1 : -1]
    logits = told["logitScale"] * functional.linear(of(folder, row), load_file(folder / "head.safetensors")["weight"])
    if told["logitSoftcap"]:
        logits = told["logitSoftcap"] * torch.tanh(logits / told["logitSoftcap"])
    torch.testing.assert_close(logits, wanted, rtol=1e-4, atol=1e-4)


def test_family_with_other_logits_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What cannot be repeated exactly is not taken as if it could."""
    forward = tiny.LlamaForCausalLM.forward

    def odd(self: Any, *arguments: Any, **options: Any) -> Any:
        output = forward(self, *arguments, **options)
        output.logits = output.logits * 1.5
        return output

    monkeypatch.setattr(tiny.LlamaForCausalLM, "forward", odd)
    job = place(tmp_path, tiny.model(), tiny.tokenizer(), tiny.PAIRS)
    assert job.execute("traces", HASH) == 64
    assert job.result().reason == "Unsupported"


def test_teacher_writes_what_rows_lack(tmp_path: Path) -> None:
    """Format prompt: completions end with a stop token; cut ones are dropped and counted; held-out rows carry the teacher's answer."""
    rows = [{"prompt": f"{n} times {n} is", "id": f"r{n}"} for n in range(40)]
    words = tiny.tokenizer()
    job = place(tmp_path, tiny.model(seed=3), words, rows, data={"train": {"uri": tiny.lines(tmp_path / "train.jsonl", rows)}})
    manifest, folder = run(job)
    train, held, dropped = (read(folder, f"{name}.jsonl") for name in ("train", "heldout", "dropped"))
    assert len(held) == 4
    assert len(train) + len(dropped) == 36
    assert manifest.counts == {"train": len(train), "heldOut": 4, "dropped": len(dropped), "tokens": manifest.counts["tokens"]}
    for row in train:
        assert row["completion_ids"][-1] == words.eos_token_id
        assert row["completion"] == words.decode(row["completion_ids"], skip_special_tokens=True)
    assert all(row["completion"] == row["teacher_answer"] for row in held)
    assert {row["reason"] for row in dropped} <= {"cut"}


def test_student_side_needs_no_teacher_afterwards(tmp_path: Path) -> None:
    """Configuration, tokenizer and template are kept; the lineage says who taught."""
    manifest, folder = run(place(tmp_path, tiny.model(), tiny.tokenizer(), tiny.PAIRS))
    words = AutoTokenizer.from_pretrained(folder / "teacher")
    assert words.chat_template == tiny.CHATML
    assert json.loads((folder / "teacher/config.json").read_text())["model_type"] == "llama"
    assert manifest.lineage["teacher"]["parameters"] == sum(p.numel() for p in tiny.model().parameters())
    assert manifest.lineage["endOfTurn"] == [words.convert_tokens_to_ids("<|im_end|>")]


def test_second_run_adopts(tmp_path: Path) -> None:
    """The teacher is not loaded again; a manifest whose files are gone does not count."""
    job = place(tmp_path, tiny.model(), tiny.tokenizer(), tiny.PAIRS)
    manifest, folder = run(job)
    assert not job.result().adopted
    assert run(job)[0] == manifest
    assert job.result().adopted
    (tmp_path / "out/stages" / f"traces-{HASH}" / manifest.root / "head.safetensors").unlink()
    assert run(job)[0].root != manifest.root
    assert folder.exists()


def test_stopped_run_goes_on_from_its_finished_shards(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """SIGTERM ends with 143; the next run computes only what is missing, and the result is the same."""
    monkeypatch.setattr(write, "SHARD_BYTES", 4000)
    job = place(tmp_path, tiny.model(), tiny.tokenizer(), tiny.PAIRS)
    scored: list[int] = []
    score = write.Scorer.score

    def stopping(self: write.Scorer, rows: Any) -> Any:
        scored.append(len(rows))
        if len(scored) == 3:
            signal.raise_signal(signal.SIGTERM)
        return score(self, rows)

    monkeypatch.setattr(write.Scorer, "score", stopping)
    assert job.execute("traces", HASH) == 143
    assert job.result().reason == "Terminated"
    before, scored[:] = len(scored), [0] * 3
    manifest, folder = run(job)
    monkeypatch.undo()
    (tmp_path / "whole").mkdir()
    other = place(tmp_path / "whole", tiny.model(), tiny.tokenizer(), tiny.PAIRS)
    whole, whole_folder = run(other)
    assert before == 3
    assert len(scored) - 3 == sum(f.path.startswith("signal-") for f in manifest.files) - 2
    assert manifest.metrics == pytest.approx(whole.metrics)
    for mine, theirs in zip(read(folder, "train.jsonl"), read(whole_folder, "train.jsonl"), strict=True):
        torch.testing.assert_close(of(folder, mine), of(whole_folder, theirs))
    assert not open_store(f"file://{tmp_path}/out", "output", {}).list(f"stages/traces-{HASH}/work")


def test_rows_that_are_too_long_are_dropped_or_refused(tmp_path: Path) -> None:
    """Never cut."""
    rows = [*tiny.PAIRS, {"prompt": "long", "completion": "x " * 200}]
    job = place(tmp_path, tiny.model(), tiny.tokenizer(), rows, training={"maxSequenceLength": 64})
    manifest, folder = run(job)
    assert read(folder, "dropped.jsonl") == [{"id": "9", "split": "train", "reason": "tooLong", "where": "train.jsonl line 9"}]
    assert "1 tooLong (raise training.maxSequenceLength" in manifest.result.message
    job = place(
        tmp_path,
        tiny.model(),
        tiny.tokenizer(),
        rows,
        training={"maxSequenceLength": 64},
        data={**job.job.spec.data.wire(), "overflow": "fail"},
    )
    assert job.execute("traces", "b" * 64) == 64
    assert "train.jsonl line 9" in job.result().message


def test_bfloat16_teacher_keeps_bfloat16_signal(tmp_path: Path) -> None:
    """The signal is in the teacher's own arithmetic."""
    job = place(tmp_path, tiny.model(), tiny.tokenizer(), tiny.PAIRS)
    spec = job.job.spec.wire()
    spec["teacher"]["model"]["precision"] = "bfloat16"
    manifest, folder = run(tiny.Place(tmp_path, spec))
    assert of(folder, read(folder, "train.jsonl")[0]).dtype == torch.bfloat16
    assert manifest.lineage["signal"]["dtype"] == "bfloat16"

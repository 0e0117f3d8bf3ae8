"""Stores outlive versions: what earlier ones wrote is read, and what is written stays the same, byte for byte."""

from __future__ import annotations

import ast
import json
from pathlib import Path
from typing import Any

import pytest

import distillery_trainer
from distillery.api.result import StageResult
from distillery_trainer.data.examples import Example
from distillery_trainer.data.rows import Row
from distillery_trainer.data.traces import Place, SignalRecord, TraceLine, Traces, TracesRecord, UsageRecord
from distillery_trainer.errors import StageError
from distillery_trainer.runner.manifest import Creator, Manifest

LOADED = (
    '{"teacher": {"uri": "hf://org/big@abc", "digest": "d23d52", "license": null, "parameters": 115008, "architecture": "LlamaForCausalLM",'
    ' "modelType": "llama", "dtype": "float32", "vocabSize": 320, "tokenizerSize": 320}, "signal": {"kind": "hiddenState", "dtype":'
    ' "float32", "width": 64, "logitScale": 1.0, "logitSoftcap": 30}, "answer": null, "meanEntropy": 3.3926362382604722, "endOfTurn": [2],'
    ' "format": "promptCompletion", "chatTemplate": null}'
)
ASKED = (
    '{"teacher": {"kind": "endpoint", "name": "gpt-x", "baseURL": "https://api.example.com/v1", "model": "gpt-x-2026-01-01",'
    ' "returnedModels": ["m"], "budget": "team", "terms": ["example-2026", "llama-3.3"], "verdict": "permit", "clause": "1.b.i", "url":'
    ' "https://example.com/terms", "obligations": [{"type": "namePrefix", "value": "Llama"}, {"type": "review"}], "catalogue": "cccc",'
    ' "approval": null, "prices": "dddd"}, "usage": {"answers": 16, "requests": 15, "cacheHits": 1, "cost": "0.024", "models": ["m"],'
    ' "terms": ["example-2026"], "shards": [{"shard": 0, "answers": 16, "requests": 15, "cacheHits": 1, "cost": "0.024", "models": ["m"],'
    ' "terms": ["example-2026"]}]}, "dropped": {"cut": 1}, "signal": {"kind": "topK", "k": 4, "rows": 12, "without": {"incomplete": 1}},'
    ' "answer": {"field": "answer", "extract": "^(\\\\w+)", "normalize": ["strip"]}, "endOfTurn": [2], "format": "prompt", "chatTemplate":'
    ' "{{ x }}"}'
)
ASKED_AS_TEXT = (
    '{"teacher": {"kind": "endpoint"}, "signal": null, "answer": null, "endOfTurn": null, "format": "prompt", "chatTemplate": null}'
)
LINES = (
    '{"id": "1", "prompt": "say fox", "completion": "fox it is", "completion_ids": [72, 289, 2], "truth": null, "signal": {"shard":'
    ' "signal-train-00000.safetensors", "offset": 6, "length": 3}}',
    '{"id": "8", "prompt": [{"role": "user", "content": "tell é"}], "completion": "fox", "completion_ids": null, "truth": "fox",'
    ' "teacher_answer": " F�-", "reasoning": "hm", "signal": null}',
)


def manifest(lineage: dict[str, Any]) -> Manifest:
    """Of a traces stage."""
    creator = Creator(namespace="team", job="job", uid="1")
    return Manifest(stage="traces", hash="a", format=1, root="", files=(), lineage=lineage, created_by=creator, result=StageResult())


@pytest.mark.parametrize("text", [LOADED, ASKED, ASKED_AS_TEXT], ids=["loaded", "asked", "text"])
def test_a_lineage_is_written_as_it_was_read(text: str) -> None:
    """Publishing hands it on, and the same inputs give the same bytes."""
    assert json.dumps(TracesRecord.of(manifest(json.loads(text))).wire()) == text


def test_what_a_lineage_says_is_found_by_name() -> None:
    loaded, asked = (TracesRecord.of(manifest(json.loads(text))) for text in (LOADED, ASKED))
    assert (loaded.teacher.parameters, loaded.end_of_turn, loaded.usage) == (115008, [2], None)
    assert loaded.signal == SignalRecord(kind="hiddenState", dtype="float32", width=64, logit_scale=1.0, logit_softcap=30)
    assert asked.signal == SignalRecord(kind="topK", k=4, rows=12, without={"incomplete": 1})
    assert [record.signal.whole for record in (loaded, asked) if record.signal] == [True, False]
    assert (asked.teacher.base_url, asked.teacher.obligations[0].value) == ("https://api.example.com/v1", "Llama")
    assert [shard.cache_hits for shard in (asked.usage or UsageRecord()).shards] == [1]


def test_fields_of_another_version() -> None:
    """Older manifests lack some; what a newer one adds is handed on."""
    assert TracesRecord.of(manifest({"endOfTurn": [2]})).signal is None
    newer = {"teacher": {"uri": "u", "tokens": 7}, "pairs": [1]}
    assert TracesRecord.of(manifest(newer)).wire() == newer
    assert TraceLine.model_validate_json('{"id": "1", "prompt": "x", "completion": "y", "difficulty": 0.5}').signal is None


def test_lines_are_written_as_they_were_read(tmp_path: Path) -> None:
    (tmp_path / "train.jsonl").write_text("".join(f"{line}\n" for line in LINES))
    traces = Traces(TracesRecord(), tmp_path)
    first, second = traces.train()
    assert (first.completion_ids, first.signal) == ([72, 289, 2], Place(shard="signal-train-00000.safetensors", offset=6, length=3))
    assert (second.prompt, second.teacher_answer) == ([{"role": "user", "content": "tell é"}], " F�-")
    assert tuple(json.dumps(line.wire(), ensure_ascii=False) for line in (first, second)) == LINES
    assert [line.id for line in traces.train({"8"})] == ["8"]


def test_an_example_is_written_as_such_a_line() -> None:
    row = Row("1", "say fox", "fox it is", None, "train.jsonl line 1")
    example = Example(row, [1], [72, 289, 2], "fox it is", signal=Place(shard="signal-train-00000.safetensors", offset=6, length=3))
    assert json.dumps(example.wire(), ensure_ascii=False) == LINES[0]


def test_what_no_traces_stage_wrote_is_refused_by_line_and_field(tmp_path: Path) -> None:
    (tmp_path / "heldout.jsonl").write_text(f'{LINES[0]}\n{{"id": "2", "prompt": 5, "completion": "x"}}\n')
    with pytest.raises(StageError, match=r"spec.teacher.traces: heldout.jsonl line 2 is none that a traces stage wrote \(prompt"):
        Traces(TracesRecord(), tmp_path).held_out()
    with pytest.raises(StageError, match=r"spec.teacher.traces: lineage is none that a traces stage wrote \(signal.kind"):
        TracesRecord.of(manifest({"signal": {"kind": "told"}}))


def test_no_module_looks_into_a_lineage_or_a_traced_line_by_key() -> None:
    """A field that is renamed or missing is then found by mypy, not by a job."""
    fields = {*TraceLine.model_fields, "lineage"}
    found = []
    for file in sorted(Path(distillery_trainer.__file__).parent.rglob("*.py")):
        for node in ast.walk(ast.parse(file.read_text())):
            match node:
                case ast.Subscript(value=ast.Name(id="lineage") | ast.Attribute(attr="lineage")):
                    found.append(f"{file.name}:{node.lineno}")
                case ast.Subscript(slice=ast.Constant(value="lineage")) if file.name != "lineage.py":
                    found.append(f"{file.name}:{node.lineno}")
                case ast.Subscript(value=ast.Name(id="line"), slice=ast.Constant(value=str(key))) if key in fields:
                    found.append(f"{file.name}:{node.lineno}")
    assert found == []

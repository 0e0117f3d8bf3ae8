"""Every tested family goes through all stages as teacher and as student."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from tests.unit.trainer import tiny
from tests.unit.trainer.pipeline import SCRATCH, TRAINING, specification, succeed
from transformers import AutoModelForCausalLM

ORIGINS: dict[str, dict[str, Any]] = {
    "scratch": {"scratch": SCRATCH},
    "layers": {"fromTeacher": {"numHiddenLayers": 1}},
    "adapters": {"fromTeacher": {"layerIndices": [0]}, "lora": {"rank": 2, "alpha": 4}},
}


@pytest.mark.parametrize("origin", sorted(ORIGINS))
@pytest.mark.parametrize("family", ["llama", "qwen2", "qwen3", "gpt2"])
def test_a_family_is_traced_trained_and_evaluated(tmp_path: Path, family: str, origin: str) -> None:
    student = {**ORIGINS[origin]}
    if origin == "scratch":
        student = {"scratch": {**SCRATCH, "architecture": family}}
    words = tiny.tokenizer()
    tiny.save(tmp_path / "teacher", tiny.model(family), words)
    tiny.lines(tmp_path / "train.jsonl", [{"prompt": f"say {n}", "completion": f"{n} it is"} for n in range(12)])
    generation = {"generation": {"maxNewTokens": 3, "batchSize": 8}}
    spec = specification(tmp_path, student=student, training={**TRAINING, "maxSteps": 3}, evaluation=generation)
    for kind in ("traces", "curate", "train"):
        manifest, files = succeed(tmp_path, kind, spec)
    loaded = AutoModelForCausalLM.from_pretrained(files / "model")
    assert loaded.config.model_type == family
    assert loaded.config.num_hidden_layers == 1
    assert manifest.lineage["student"]["parameters"] == sum(p.numel() for p in loaded.parameters())
    result = succeed(tmp_path, "evaluate", spec)[0].result.evaluation
    assert result is not None
    assert result.rows == 1

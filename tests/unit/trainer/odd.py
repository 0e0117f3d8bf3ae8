"""Makes folders as people publish them, and runs whole jobs over them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from tests.unit.trainer import tiny
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedModel

from distillery.api.stages import planned_stages
from distillery.api.student import Lora
from distillery_trainer.models.files import fetch_model, read_model
from distillery_trainer.runner import execute
from distillery_trainer.student.make import with_adapters

#: GLM's way: no end in tokenizer or template, three in the generation config.
GLM = {"eos_token_id": [0, 1, 2], "do_sample": False, "temperature": 0.9, "top_p": 0.6}
IDS = torch.arange(20)[None]


def edit(folder: Path, name: str, **fields: Any) -> None:
    """Change fields of a JSON file."""
    file = folder / name
    file.write_text(json.dumps({**(json.loads(file.read_text()) if file.exists() else {}), **fields}))


def contradicting(folder: Path) -> PreTrainedModel:
    """A model with a head of its own whose config.json says that the embedding is the head."""
    made = tiny.model(tie_word_embeddings=False)
    tiny.save(folder, made, tiny.tokenizer())
    edit(folder, "config.json", tie_word_embeddings=True)
    return made


def add_adapter(folder: Path) -> None:
    """A low-rank adapter that changes every answer, as peft leaves it beside the merged model."""
    adapted = with_adapters(tiny.model(), Lora(rank=2, alpha=64))
    for parameter in adapted.parameters():
        if parameter.requires_grad:
            parameter.data.normal_()
    adapted.save_pretrained(folder)


def read(folder: Path, work: Path) -> PreTrainedModel:
    """As stages read it."""
    return read_model(fetch_model(f"file://{folder}", "teacher", work), torch.float32)


def logits(model: Any) -> torch.Tensor:
    """Of a few tokens."""
    with torch.no_grad():
        found: torch.Tensor = model(IDS).logits
    return found


def journey(root: Path, spec: dict[str, Any], publish: bool = False) -> tiny.Place:
    """Every stage up to the exports (or publish), each as its pod runs it."""
    place = tiny.Place(root, spec)
    assert place.execute("preflight") == 0, place.result().message
    stages = planned_stages(place.job.spec)[1 : None if publish else -1]
    hashes = {planned.name: f"{number:064x}" for number, planned in enumerate(stages)}
    for planned in stages:
        with tiny.kept_handlers():
            environment = {**place.environment, "DISTILLERY_WORK": str(root / "work" / planned.name)}
            code = execute.execute(planned.kind, planned.name, hashes[planned.name], hashes, environment)
        assert code == 0, (planned.name, place.result().message)
    return place


def family(kind: str, **more: Any) -> PreTrainedModel:
    """A random model of any family."""
    shape = {"vocab_size": 320, "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2, "num_attention_heads": 4}
    made: PreTrainedModel = AutoModelForCausalLM.from_config(AutoConfig.for_model(kind, **{**shape, "num_key_value_heads": 2, **more}))
    return made.eval()


def export(kind: str, quantization: str) -> dict[str, Any]:
    """An export of a format."""
    return {"name": "edge", "format": kind, "quantization": quantization}

"""Which files of a folder are a model's weights: adapters, pickles and other programs' formats lie beside them."""

from __future__ import annotations

import json
from collections.abc import Collection
from pathlib import Path

WEIGHTS, INDEX = "model.safetensors", "model.safetensors.index.json"
ADAPTER_CONFIG = "adapter_config.json"


def is_adapter(name: str) -> bool:
    """Whether peft wrote this file: transformers applies an adapter that lies beside a model, asked or not."""
    return name == ADAPTER_CONFIG or name.startswith("adapter_model.")


def shards(index: Path) -> list[str]:
    """Files that an index says the weights are in. ValueError where it is no index."""
    try:
        return sorted({str(name) for name in json.loads(index.read_text())["weight_map"].values()})
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError("it has no weight_map of names") from error


def remedy(there: Collection[str]) -> str:
    """What to do about a folder that holds no weights which could be read."""
    if any(is_adapter(path) for path in there):
        text = "is an adapter without its model: merge it into its base first (peft's merge_and_unload, then save_pretrained)"
        return f"{text} and name the folder of the merged model"
    if any(path.endswith((".bin", ".pt", ".pth")) for path in there):
        return "pickled weights are not read; save the model again with save_pretrained, which writes safetensors"
    gguf = next((path for path in there if path.endswith(".gguf")), None)
    if gguf:
        return f"to use the GGUF file, let the URI end in {gguf}"
    return "name the folder that save_pretrained wrote"

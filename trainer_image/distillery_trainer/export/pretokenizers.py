"""Which pre-tokenizer a byte-level BPE tokenizer has, by the name that llama.cpp knows it by (`tokenizer.ggml.pre`).

llama.cpp holds the splitting rules in its code and picks them by this name, so a tokenizer whose rules have no name there would load
without an error and cut text in other places than the student was trained on.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, NamedTuple

from tokenizers import Regex, Tokenizer, pre_tokenizers

_CONTRACTIONS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+"
_REST = r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"


class Known(NamedTuple):
    """A splitting rule of llama.cpp: `build` makes the same one for the tokenizers library."""

    build: pre_tokenizers.PreTokenizer
    ignore_merges: bool = False
    normalizer: str | None = None


def _split(numbers: str) -> pre_tokenizers.PreTokenizer:
    pattern = Regex(f"{_CONTRACTIONS}|{numbers}{_REST}")
    return pre_tokenizers.Sequence(
        [pre_tokenizers.Split(pattern, behavior="isolated"), pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]
    )


def _byte_level() -> pre_tokenizers.PreTokenizer:
    return pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)


#: NFC of qwen2 is not in llama.cpp: text that is not in that form (rare outside of decomposed accents) gets other tokens there.
KNOWN: Mapping[str, Known] = {
    "gpt-2": Known(_byte_level()),
    "smollm": Known(pre_tokenizers.Sequence([pre_tokenizers.Digits(individual_digits=True), _byte_level()])),
    "llama-bpe": Known(_split(r"\p{N}{1,3}"), ignore_merges=True),
    "qwen2": Known(_split(r"\p{N}"), normalizer="NFC"),
}


def for_name(name: str) -> pre_tokenizers.PreTokenizer | None:
    """The pre-tokenizer that llama.cpp calls `name`; None if it is not one of KNOWN.

    Readers of GGUF files need it: transformers gives a `smollm` file the rules of `gpt-2`.
    """
    return KNOWN[name].build if name in KNOWN else None


def recognise(tokenizer: Tokenizer) -> str | None:
    """The name of a tokenizer's rules in llama.cpp, or None where it has other rules, another normalizer or an added prefix space."""
    spec = json.loads(tokenizer.to_str())
    rules = _shape(spec["pre_tokenizer"])
    normalizer = _single(spec["normalizer"])
    for name, known in KNOWN.items():
        same = rules == _shape(_serialised(known.build)) and spec["model"].get("ignore_merges", False) == known.ignore_merges
        if same and (normalizer["type"] if normalizer else None) == known.normalizer:
            return name
    return None


def _serialised(pre_tokenizer: pre_tokenizers.PreTokenizer) -> Any:
    from tokenizers.models import BPE

    holder = Tokenizer(BPE())
    holder.pre_tokenizer = pre_tokenizer
    return json.loads(holder.to_str())["pre_tokenizer"]


def _shape(node: Any) -> Any:
    """The steps that decide where text is cut; `trim_offsets` only moves offsets."""
    steps = node["pretokenizers"] if node and node["type"] == "Sequence" else [node]
    return [{key: value for key, value in (step or {}).items() if key != "trim_offsets"} for step in steps]


def _single(node: Any) -> Any:
    """A normalizer without the sequence of one around it."""
    if node and node["type"] == "Sequence" and len(node["normalizers"]) <= 1:
        return node["normalizers"][0] if node["normalizers"] else None
    return node

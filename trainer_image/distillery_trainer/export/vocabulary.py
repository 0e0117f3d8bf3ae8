"""A Hugging Face tokenizer as llama.cpp's vocabulary: byte-level BPE with rules that llama.cpp knows."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import gguf
from transformers import PreTrainedTokenizerBase

from . import pretokenizers
from .architecture import unsupported

#: llama.cpp refuses a file without merges. This one never applies: its sides are two symbols long, and nothing makes such a symbol.
_NO_MERGE = "ĀĀ ĀĀ"


@dataclass(frozen=True)
class Vocabulary:
    """What is written under `tokenizer.*`; `stops` end an answer, the tokenizer's own eos first."""

    pre: str
    tokens: Sequence[str]
    types: Sequence[gguf.TokenType]
    merges: Sequence[str]
    bos: int
    stops: Sequence[int]
    pad: int | None
    add_bos: bool
    add_eos: bool
    chat_template: str | None

    def write(self, writer: gguf.GGUFWriter) -> None:
        """Add the keys to a file."""
        writer.add_tokenizer_model("gpt2")
        writer.add_tokenizer_pre(self.pre)
        writer.add_token_list(list(self.tokens))
        writer.add_token_types(list(self.types))
        writer.add_token_merges(list(self.merges) or [_NO_MERGE])
        writer.add_bos_token_id(self.bos)
        for add, token in zip((writer.add_eos_token_id, writer.add_eot_token_id, writer.add_eom_token_id), self.stops, strict=False):
            add(token)
        if self.pad is not None:
            writer.add_pad_token_id(self.pad)
        writer.add_add_bos_token(self.add_bos)
        writer.add_add_eos_token(self.add_eos)
        writer.add_add_space_prefix(False)
        if self.chat_template:
            writer.add_chat_template(self.chat_template)


def read(tokenizer: PreTrainedTokenizerBase, size: int, stop_ids: Collection[int] = ()) -> Vocabulary:
    """The vocabulary of `tokenizer`, filled up to `size` (the rows of the model's embedding) with tokens that never occur.

    `stop_ids` are those of generation_config.json. StageError (Unsupported) where llama.cpp would cut text differently.
    """
    for reason in _refusals(tokenizer, size, stop_ids):
        raise unsupported(f"the student's tokenizer {reason}")
    backend = tokenizer.backend_tokenizer
    spec = json.loads(backend.to_str())
    tokens = [f"[PAD{i}]" for i in range(size)]
    types = [gguf.TokenType.UNUSED] * size
    for token, index in backend.get_vocab(with_added_tokens=True).items():
        tokens[index], types[index] = token, gguf.TokenType.NORMAL
    for added in spec["added_tokens"]:
        types[added["id"]] = gguf.TokenType.CONTROL if added["special"] else gguf.TokenType.USER_DEFINED
    eos = min(stop_ids) if tokenizer.eos_token_id is None else int(tokenizer.eos_token_id)
    stops = [eos, *sorted(set(stop_ids) - {eos})]
    if len(stops) > 3:
        text = f"{len(stops)} ids end an answer ({', '.join(map(str, stops))}), and a file holds 3"
        raise unsupported(f"{text} (eos_token_id in generation_config.json names them)")
    before, after = _affixes(tokenizer)
    template = tokenizer.chat_template
    return Vocabulary(
        pre=str(pretokenizers.recognise(backend)),
        tokens=tokens,
        types=types,
        merges=[merge if isinstance(merge, str) else " ".join(merge) for merge in spec["model"]["merges"]],
        # Without the key llama.cpp would take token 11.
        bos=eos if tokenizer.bos_token_id is None else int(tokenizer.bos_token_id),
        stops=stops,
        pad=None if tokenizer.pad_token_id is None else int(tokenizer.pad_token_id),
        add_bos=bool(before),
        add_eos=bool(after),
        chat_template=template.get("default") if isinstance(template, dict) else template,
    )


def _affixes(tokenizer: PreTrainedTokenizerBase) -> tuple[list[int], list[int]]:
    """What the tokenizer puts before and after a text by itself."""
    bare = list(tokenizer("1", add_special_tokens=False).input_ids)
    full = list(tokenizer("1").input_ids)
    at = next((i for i in range(len(full) - len(bare) + 1) if full[i : i + len(bare)] == bare), 0)
    return full[:at], full[at + len(bare) :]


def _refusals(tokenizer: PreTrainedTokenizerBase, size: int, stop_ids: Collection[int]) -> Iterator[str]:
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None:
        yield "has no tokenizer.json"
        return
    spec: dict[str, Any] = json.loads(backend.to_str())
    model = spec["model"]
    if model["type"] != "BPE" or model.get("byte_fallback") or (spec["decoder"] or {}).get("type") != "ByteLevel":
        yield f"is not a byte-level BPE ({model['type']}, decoder {(spec['decoder'] or {}).get('type')})"
        return
    if any(model.get(key) for key in ("continuing_subword_prefix", "end_of_word_suffix", "dropout")):
        yield "marks the insides or ends of words, or drops merges at random"
    if pretokenizers.recognise(backend) is None:
        yield f"splits or normalises text by rules that llama.cpp has no name for (it knows {', '.join(pretokenizers.KNOWN)})"
    if tokenizer.eos_token_id is None and not stop_ids:
        yield "has no eos_token, so that an answer would never end"
        return
    if len(tokenizer) > size:
        yield f"has {len(tokenizer)} tokens, more than the model's vocab_size of {size}"
    odd = [t["content"] for t in spec["added_tokens"] if t["single_word"] or t["lstrip"] or t["rstrip"]]
    if odd:
        yield f"has added tokens that take in white space or match whole words only, first {odd[0]!r}"
    before, after = _affixes(tokenizer)
    if before not in ([], [tokenizer.bos_token_id]) or after not in ([], [tokenizer.eos_token_id]):
        yield f"puts tokens {before} before and {after} after a text, where llama.cpp can put bos and eos"

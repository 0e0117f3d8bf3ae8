"""What ends an answer, wherever a model says so, and generation configs that can be saved."""

from __future__ import annotations

import copy
import logging
from pathlib import Path

from transformers import GenerationConfig, PreTrainedTokenizerBase

log = logging.getLogger(__name__)
#: Without meaning in greedy decoding and with one beam, where transformers refuses to save them.
_IDLE = ("temperature", "top_p", "top_k", "min_p", "top_h", "typical_p", "epsilon_cutoff", "eta_cutoff", "early_stopping", "length_penalty")
_IDS = ("bos_token_id", "eos_token_id", "pad_token_id")


def end_ids(generation: GenerationConfig | None, tokenizer: PreTrainedTokenizerBase | None = None) -> frozenset[int]:
    """Every id that a generation config ends an answer with; ValueError where one is no id. Negative ones mean none.

    With a tokenizer those of stop_strings too, as far as they are tokens.
    """
    given = generation.eos_token_id if generation is not None else None
    ids = list(given) if isinstance(given, list | tuple | set) else [given]
    wrong = [token for token in ids if token is not None and (isinstance(token, bool) or not isinstance(token, int))]
    if wrong:
        raise ValueError(f"eos_token_id {wrong[0]!r} is no token id")
    return frozenset(token for token in ids if token is not None and token >= 0) | _stop_strings(generation, tokenizer)


def _stop_strings(generation: GenerationConfig | None, tokenizer: PreTrainedTokenizerBase | None) -> frozenset[int]:
    given = generation.stop_strings if generation is not None else None
    if not given or tokenizer is None:
        return frozenset()
    words = tokenizer.get_vocab()
    texts = [given] if isinstance(given, str) else list(given)
    rest = [text for text in texts if text not in words]
    if rest:
        log.warning("stop_strings of generation_config.json are no tokens, so answers do not end there: %s", rest[:5])
    return frozenset(words[text] for text in texts if text in words)


def gguf_end_ids(file: Path) -> list[int]:
    """Ids that end an answer by a GGUF file's own word: transformers reads the first of them alone."""
    from gguf import GGUFReader

    reader = GGUFReader(file)
    fields = (reader.get_field(f"tokenizer.ggml.{name}_token_id") for name in ("eos", "eot", "eom"))
    return sorted({int(field.contents()) for field in fields if field is not None})


def savable(generation: GenerationConfig) -> GenerationConfig:
    """A copy that transformers agrees to save, as near to the given one as can be.

    Published folders hold configs that contradict themselves, such as a temperature beside greedy decoding. They load with a warning and
    are refused when they are saved, which here would be after training.
    """
    made = copy.deepcopy(generation)
    if isinstance(made.pad_token_id, int) and made.pad_token_id < 0:
        made.pad_token_id = None
    problem = _problem(made)
    if problem is None:
        return made
    if made.do_sample is not True:
        for name in _IDLE:
            setattr(made, name, None)
    if _problem(made) is None:
        log.warning("generation_config.json contradicts itself, so the settings of sampling in it are left out: %s", problem)
        return made
    log.warning("generation_config.json contradicts itself, so all but its token ids is left out: %s", problem)
    return GenerationConfig(**{name: getattr(made, name) for name in _IDS})  # type: ignore[no-untyped-call]


def _problem(generation: GenerationConfig) -> str | None:
    try:
        generation.validate(strict=True)
    except (ValueError, TypeError) as error:
        return " ".join(str(error).split())[:300]
    return None

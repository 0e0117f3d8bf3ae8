"""Text that stays text: `<s>` in an HTML row is three characters, not the token that begins a document."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable
from functools import cached_property
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tokenizers import Tokenizer
    from transformers import PreTrainedTokenizerBase

    from distillery.api.rows import Prompt

#: Lowest score of a Unigram piece: chosen by no text that can be written otherwise.
_NEVER = -1e6
_SHOWN = 4


class PlainText:
    """The special tokens of a tokenizer, and how a text that spells one is read without it.

    Special are those that the tokenizer calls so and those that end a turn; other added tokens (<think>, <tool_call>) are text.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase, ends: Iterable[int]) -> None:
        self._tokenizer = tokenizer
        added = tokenizer.added_tokens_decoder
        flagged = (index for index, token in added.items() if token.special)
        self.special = frozenset(map(int, (*flagged, *tokenizer.all_special_ids, *ends)))

    @cached_property
    def words(self) -> tuple[str, ...]:
        """Their names; a name of one or two characters is ordinary text that a tokenizer has made its pad."""
        names = (str(self._tokenizer.convert_ids_to_tokens(index)) for index in sorted(self.special))
        return tuple(name for name in names if len(name) > 2)

    @cached_property
    def _pattern(self) -> re.Pattern[str] | None:
        return re.compile("|".join(map(re.escape, self.words))) if self.words else None

    def found(self, text: str) -> list[str]:
        """The special tokens that a text spells."""
        return self._pattern.findall(text) if self._pattern else []

    def ids(self, text: str) -> list[int]:
        """Token ids of a text, none of them special."""
        ids = [int(index) for index in self._tokenizer(text, add_special_tokens=False)["input_ids"]]
        special = self.special.intersection(ids)
        unknown = self._tokenizer.unk_token_id
        # a tokenizer without bytes writes what it does not know as a special token of its own
        if not special or (special == {unknown} and str(self._tokenizer.unk_token) not in text):
            return ids
        return [int(index) for index in self._plain.encode(text, add_special_tokens=False).ids]

    def in_prompts(self, prompts: Iterable[Prompt]) -> tuple[int, str]:
        """How many prompts spell special tokens, and a sentence that says so; it is empty where none does."""
        spelled = [names for prompt in prompts if (names := self.found(_text(prompt)))]
        if not spelled:
            return 0, ""
        common = ", ".join(name for name, _ in Counter(name for names in spelled for name in names).most_common(_SHOWN))
        text = f"{len(spelled)} prompts spell special tokens ({common}), which are read as those tokens"
        return len(spelled), f"{text}: write them otherwise where they are meant as text"

    @cached_property
    def _plain(self) -> Tokenizer:
        """A copy of the tokenizer that takes no special token from text: neither as an added token nor as a piece of its model."""
        from tokenizers import Tokenizer

        backend: Any = self._tokenizer
        spec = json.loads(backend.backend_tokenizer.to_str())
        names = set()
        for token in spec["added_tokens"]:
            token["special"] = token["special"] or token["id"] in self.special
            if token["special"]:
                names.add(token["content"])
        model = spec["model"]
        if model["type"] == "Unigram":
            model["vocab"] = [[piece, _NEVER if piece in names else score] for piece, score in model["vocab"]]
        elif model["type"] == "BPE":
            model["merges"] = [
                pair for pair in model["merges"] if "".join(pair if isinstance(pair, list) else pair.split(" ")) not in names
            ]
        plain = Tokenizer.from_str(json.dumps(spec))
        plain.encode_special_tokens = True
        plain.no_padding()
        plain.no_truncation()
        return plain


def _text(prompt: Prompt) -> str:
    return prompt if isinstance(prompt, str) else "\n".join(message["content"] for message in prompt)

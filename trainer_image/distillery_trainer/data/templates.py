"""How a row becomes token ids: a chat template, or plain text. The loss mask is a matter of positions, never of token ids.

Prompt and completion are tokenized apart, so that the boundary between them is a boundary between tokens in training as in use.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

from jinja2 import TemplateError

from distillery.api import reasons
from distillery.api.rows import Prompt
from distillery_trainer.errors import StageError

from .end_words import without_end_words
from .plain_text import PlainText

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

#: Stands for a completion while a template is asked what follows it; no template strips or quotes it.
_PROBE = "Q7completionQ7"


def template_of(tokenizer: PreTrainedTokenizerBase, whose: str = "teacher") -> str | None:
    """The tokenizer's own chat template, the one named default where it has several. StageError where several have other names."""
    given = tokenizer.chat_template
    if isinstance(given, dict) and given and "default" not in given:
        text = f"the {whose} has the chat templates {', '.join(sorted(given))}, and none of them is called default"
        other = "set it to teacher or none, or save" if whose == "student" else "save"
        remedy = f"{other} the one that is meant as chat_template.jinja beside the {whose}'s tokenizer_config.json"
        raise StageError(reasons.BAD_INPUT, f"data.chatTemplate: {text}: {remedy}")
    return str(tokenizer.get_chat_template()) if given else None


def choose_template(choice: str, student: PreTrainedTokenizerBase, teacher: PreTrainedTokenizerBase | None) -> str | None:
    """The template that renders the student's prompts and is published (data.chatTemplate); None is plain text."""
    own = template_of(student, "student") if choice in ("auto", "student") else None
    other = template_of(teacher) if teacher and (choice == "teacher" or (choice == "auto" and own is None)) else None
    chosen = own or other
    if chosen is None and choice in ("student", "teacher"):
        raise StageError(reasons.BAD_INPUT, f"data.chatTemplate: {choice!r}, but the {choice} has no chat template; set it to auto or none")
    return chosen


class Renderer:
    """One tokenizer with one template (None: plain text). `ends` are the ids that the model's generation config ends an answer with."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase, template: str | None, ends: Collection[int] = ()) -> None:
        self.tokenizer, self.template = tokenizer, template
        #: Ids that end a completion.
        self.end = self._end(ends)
        #: Any of these ends a generated completion.
        eos = () if tokenizer.eos_token_id is None else (int(tokenizer.eos_token_id),)
        # ids beyond the tokenizer are left from another one
        self.stop_ids = frozenset({self.end[-1], *eos, *(end for end in ends if tokenizer.convert_ids_to_tokens(end) is not None)})

    def prompt_text(self, prompt: Prompt) -> str:
        """The prompt as the model reads it, up to where the assistant begins. ValueError with the template's own words if it refuses."""
        if self.template is None:
            return prompt if isinstance(prompt, str) else "\n".join(message["content"] for message in prompt)
        messages = [{"role": "user", "content": prompt}] if isinstance(prompt, str) else [dict(message) for message in prompt]
        try:
            return self._apply(messages, add_generation_prompt=True)
        except TemplateError as error:
            raise ValueError(f"the chat template refuses the prompt: {error}") from error

    def prompt_ids(self, prompt: Prompt) -> list[int]:
        """Token ids of the prompt. In plain text the tokenizer adds what it puts before a text (BOS), and nothing behind."""
        text = self.prompt_text(prompt)
        if self.template is not None:
            return self._ids(text)
        ids = [int(i) for i in self.tokenizer(text)["input_ids"]]
        bare = self._ids(text)
        # What the tokenizer appends (EOS, SEP) would end the text before it began.
        start = next((at for at in range(len(ids) - len(bare) + 1) if ids[at : at + len(bare)] == bare), None)
        return ids if start is None else ids[: start + len(bare)]

    def completion_ids(self, text: str) -> list[int]:
        """Token ids of the completion, with the end token(s), which a text that ends with their name does not get twice.

        Between them is text alone, whatever it spells.
        """
        return [*self.plain.ids(without_end_words(text, self.end_words)), *self.end]

    @cached_property
    def plain(self) -> PlainText:
        """How completions are read."""
        return PlainText(self.tokenizer, self.stop_ids)

    @cached_property
    def end_words(self) -> tuple[str, ...]:
        """Names of the tokens that end a completion."""
        names = (str(self.tokenizer.convert_ids_to_tokens(index)) for index in sorted(self.stop_ids))
        return tuple(name for name in names if len(name) > 2)

    def text(self, ids: Sequence[int]) -> str:
        """The text of a completion, without special tokens and without the id that ended it, which need not be one of them."""
        whole = list(ids[:-1] if ids and ids[-1] in self.stop_ids else ids)
        return str(self.tokenizer.decode(whole, skip_special_tokens=True, clean_up_tokenization_spaces=False))

    def _ids(self, text: str) -> list[int]:
        return [int(i) for i in self.tokenizer(text, add_special_tokens=False)["input_ids"]]

    def _apply(self, messages: list[dict[str, str]], **options: Any) -> str:
        return str(self.tokenizer.apply_chat_template(messages, chat_template=self.template, tokenize=False, **options))

    def _end(self, ends: Collection[int]) -> tuple[int, ...]:
        """What the template puts after the assistant's text, up to its first special token; EOS where it puts none, or in plain text.

        Without an EOS the first id that the generation config names stands in.
        """
        if self.template is not None:
            try:
                whole = self._apply([{"role": "user", "content": "?"}, {"role": "assistant", "content": _PROBE}])
            except TemplateError as error:
                raise StageError(reasons.UNSUPPORTED, f"the chat template fails on a plain dialogue: {error}; correct it") from error
            tail = self._ids(whole.rpartition(_PROBE)[2].lstrip())
            special = set(self.tokenizer.all_special_ids) | set(self.tokenizer.added_tokens_decoder)
            first = next((at for at, token in enumerate(tail) if token in special), None)
            if first is not None:
                return tuple(tail[: first + 1])
        known = [] if self.tokenizer.eos_token_id is None else [int(self.tokenizer.eos_token_id)]
        if not (known or ends):
            text = "the tokenizer has neither an eos token nor a chat template that ends a turn: set eos_token in tokenizer_config.json"
            raise StageError(reasons.UNSUPPORTED, text)
        return (*known, *sorted(ends))[:1]


def shown(renderer: Renderer, prompt_ids: Sequence[int], completion_ids: Sequence[int]) -> str:
    """A row for people: the text without loss, then each token that the loss covers."""
    tokenizer = renderer.tokenizer
    without = str(tokenizer.decode(list(prompt_ids), skip_special_tokens=False))
    covered = [repr(tokenizer.decode([token], skip_special_tokens=False)) for token in completion_ids]
    return "\n".join(
        (
            f"  no loss on {len(prompt_ids)} tokens:",
            *(f"    | {line}" for line in without.splitlines() or [""]),
            f"  loss on {len(covered)} tokens, the last ends the answer:",
            "    " + " ".join(covered if len(covered) <= 120 else [*covered[:80], "…", *covered[-20:]]),
        )
    )

"""What an answer of the API holds: text, reasoning, how it ended."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from .asks import Ask
from .gateway import Reply

CUT, REFUSED, UNANSWERED = "cut", "refused", "unanswered"
#: The block may lack its opening tag, which some chat templates put at the end of the prompt.
_THINKING = re.compile(r"\A\s*(?:<think>)?(.*?)</think>\s*", re.DOTALL)


@dataclass(frozen=True)
class Choice:
    """One text. `problem` is why it cannot be learned from, empty where it can; `detail` says more in the API's own words."""

    text: str
    reasoning: str | None = None
    problem: str = ""
    detail: str = ""

    def wire(self) -> dict[str, Any]:
        """As it is kept between runs."""
        return {name: value for name, value in vars(self).items() if value}


@dataclass(frozen=True)
class Answered:
    """What is kept of an answer: its texts, and what the gateway said of it."""

    at: int
    choices: tuple[Choice, ...]
    model: str
    bought: bool
    cost: int
    key: str
    terms: tuple[str, ...]

    def wire(self) -> dict[str, Any]:
        """One line of a piece."""
        return {**vars(self), "choices": [choice.wire() for choice in self.choices]}

    @staticmethod
    def read(line: Mapping[str, Any]) -> Answered:
        """What wire() wrote."""
        choices = tuple(Choice(**{"text": "", **choice}) for choice in line["choices"])
        return Answered(**{**line, "choices": choices, "terms": tuple(line["terms"])})


def parsed(ask: Ask, reply: Reply) -> Answered:
    """The answer to a request; a choice that is not there counts as unanswered."""
    given = [choice for choice in reply.body["choices"] if isinstance(choice, Mapping)]
    ordered = sorted(given, key=lambda choice: int(choice.get("index") or 0))[: ask.samples]
    choices = [_choice(choice) for choice in ordered]
    lacking = f"{len(choices)} of {ask.samples} answers came"
    choices += [Choice("", None, UNANSWERED, lacking) for _ in range(ask.samples - len(choices))]
    return Answered(ask.at, tuple(choices), str(reply.body.get("model") or ""), reply.bought, reply.cost, reply.key, reply.terms)


def _choice(choice: Mapping[str, Any]) -> Choice:
    message = choice.get("message")
    said = message if isinstance(message, Mapping) else {"content": choice.get("text")}
    text, reasoning = split_reasoning(_text(said.get("content")), said.get("reasoning_content") or said.get("reasoning"))
    finish = str(choice.get("finish_reason") or "")
    if said.get("refusal") or finish == "content_filter":
        return Choice(text, reasoning, REFUSED, str(said.get("refusal") or "content_filter"))
    if finish == "length" or (not text and reasoning):
        return Choice(text, reasoning, CUT, "finish_reason length" if finish == "length" else "it ended within its reasoning")
    if finish not in ("stop", "") or not text.strip():
        return Choice(text, reasoning, UNANSWERED, f"finish_reason {finish}" if finish not in ("stop", "") else "the text is empty")
    return Choice(text, reasoning)


def _text(content: Any) -> str:
    """Text of a message: a string, or parts of which those of type text count."""
    if isinstance(content, list):
        return "".join(str(part.get("text") or "") for part in content if isinstance(part, Mapping) and part.get("type") == "text")
    return content if isinstance(content, str) else ""


def split_reasoning(text: str, given: Any = None) -> tuple[str, str | None]:
    """(answer, reasoning): what a reasoning model thought is kept apart, whether the server did that or left it in a <think> block."""
    if isinstance(given, str) and given:
        return text, given
    if found := _THINKING.match(text):
        return text[found.end() :], found.group(1).strip() or None
    if text.lstrip().startswith("<think>"):
        return "", text.lstrip().removeprefix("<think>").strip()
    return text, None

"""What an answer of the API holds: text, reasoning, how it ended."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from .asks import Ask
from .distribution import REASONED, Distribution, Reader
from .gateway import Reply

CUT, REFUSED, UNANSWERED = "cut", "refused", "unanswered"
#: Values of finish_reason, of OpenAI's API and of servers like it; any other means that the answer came to its end.
_CUTS, _REFUSALS = frozenset({"length", "max_tokens"}), frozenset({"content_filter", "refusal", "safety"})
_FAILURES = frozenset({"tool_calls", "function_call", "error", "abort", "cancelled"})
#: The block may lack its opening tag, which some chat templates put at the end of the prompt.
_THINKING = re.compile(r"\A\s*(?:<think>)?(.*?)</think>\s*", re.DOTALL)


@dataclass(frozen=True)
class Choice:
    """One text. `problem` is why it cannot be learned from, empty where it can; `detail` says more in the API's own words.

    `signal` says where its distributions are kept (piece, offset, length); where there are none although they were asked for, `without`
    says why.
    """

    text: str
    reasoning: str | None = None
    problem: str = ""
    detail: str = ""
    signal: dict[str, Any] | None = None
    without: str = ""

    def wire(self) -> dict[str, Any]:
        """As it is kept between runs."""
        return {name: value for name, value in vars(self).items() if value}


@dataclass(frozen=True)
class Answered:
    """What is kept of an answer: its texts, and what the gateway said of it."""

    at: int
    choices: tuple[Choice, ...]
    model: str
    requests: int
    hits: int
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


def parsed(ask: Ask, reply: Reply, reader: Reader | None = None) -> tuple[Answered, list[Distribution | None]]:
    """The answer to a request, a choice that is not there counting as unanswered; and the distributions of each choice that has some.

    They are read for the answers of training rows, with `reader`, where the job asks for them.
    """
    given = [choice for choice in reply.body["choices"] if isinstance(choice, Mapping)]
    ordered = sorted(given, key=lambda choice: int(choice.get("index") or 0))[: ask.samples]
    choices, distributions = [_choice(choice) for choice in ordered], list[Distribution | None]([None] * ask.samples)
    if reader is not None and not ask.held_out:
        for at, choice in enumerate(choices):
            found = _distribution(choice, ordered[at], reader)
            if isinstance(found, str):
                choices[at] = replace(choice, without=found)
            else:
                distributions[at] = found
    lacking = f"{len(choices)} of {ask.samples} answers came"
    choices += [Choice("", None, UNANSWERED, lacking) for _ in range(ask.samples - len(choices))]
    model = _shown(reply.body.get("model") or "")
    answered = Answered(ask.at, tuple(choices), model, reply.requests, reply.hits, reply.cost, reply.key, reply.terms)
    return answered, distributions


def _distribution(choice: Choice, given: Mapping[str, Any], reader: Reader) -> Distribution | str:
    """Of what the student is trained on. After reasoning the teacher's distribution is that of a context which the student does not see."""
    if choice.problem:
        return ""
    return REASONED if choice.reasoning else reader.read(choice.text, given.get("logprobs"))


def _choice(choice: Mapping[str, Any]) -> Choice:
    message = choice.get("message")
    said = message if isinstance(message, Mapping) else {"content": choice.get("text")}
    text, reasoning = split_reasoning(_text(said.get("content")), said.get("reasoning_content") or said.get("reasoning"))
    finish = str(choice.get("finish_reason") or "")
    if not (_is_text(text) and _is_text(reasoning or "")):
        return Choice("", None, UNANSWERED, "the text holds half of a surrogate pair, which is no text")
    if said.get("refusal") or finish in _REFUSALS:
        return Choice(text, reasoning, REFUSED, _shown(said.get("refusal") or finish))
    if finish in _CUTS or (not text and reasoning):
        return Choice(text, reasoning, CUT, f"finish_reason {finish}" if finish in _CUTS else "it ended within its reasoning")
    if finish in _FAILURES or not text.strip():
        return Choice(text, reasoning, UNANSWERED, f"finish_reason {finish}" if finish in _FAILURES else "the text is empty")
    return Choice(text, reasoning)


def _is_text(text: str) -> bool:
    """JSON can hold what UTF-8 cannot: some servers cut an emoji in two."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _shown(value: Any) -> str:
    """Of what a server says beside its answers, as much as fits a message."""
    return str(value)[:160].encode(errors="replace").decode()


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

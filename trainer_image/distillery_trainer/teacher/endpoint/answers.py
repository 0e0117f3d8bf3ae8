"""What an answer of the API holds: text, reasoning, how it ended."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from distillery.api.finish import ending
from distillery_trainer.data.end_words import KNOWN, without_end_words

from .asks import Ask
from .distribution import REASONED, Distribution, Reader
from .gateway import Reply
from .reasoning import split_reasoning, thoughts_of

CUT, REFUSED, UNANSWERED = "cut", "refused", "unanswered"


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


def parsed(
    ask: Ask, reply: Reply, reader: Reader | None = None, end_words: Iterable[str] = KNOWN
) -> tuple[Answered, list[Distribution | None]]:
    """The answer to a request, a choice that is not there counting as unanswered; and the distributions of each choice that has some.

    They are read for the answers of training rows, with `reader`, where the job asks for them. Nothing that a server says raises.
    """
    given = [choice for choice in reply.body["choices"] if isinstance(choice, Mapping)]
    ordered = sorted(given, key=_index)[: ask.samples]
    words = tuple(end_words)
    choices, distributions = [_choice(choice, words) for choice in ordered], list[Distribution | None]([None] * ask.samples)
    if reader is not None and not ask.held_out:
        for at, choice in enumerate(choices):
            found = _distribution(choice, ordered[at], reader)
            if isinstance(found, str):
                choices[at] = replace(choice, without=found)
            else:
                distributions[at] = found
    lacking = reply.lacking or f"{len(choices)} of {ask.samples} answers came"
    choices += [Choice("", None, UNANSWERED, _shown(lacking)) for _ in range(ask.samples - len(choices))]
    model = _shown(reply.body.get("model") or "")
    answered = Answered(ask.at, tuple(choices), model, reply.requests, reply.hits, reply.cost, reply.key, reply.terms)
    return answered, distributions


def _index(choice: Mapping[str, Any]) -> int:
    """Where a server says that a choice stands; those without a place keep the order in which they came."""
    index = choice.get("index")
    return index if isinstance(index, int) else 0


def _distribution(choice: Choice, given: Mapping[str, Any], reader: Reader) -> Distribution | str:
    """Of what the student is trained on. After reasoning the teacher's distribution is that of a context which the student does not see."""
    if choice.problem:
        return ""
    return REASONED if choice.reasoning else reader.read(choice.text, given.get("logprobs"))


def _choice(choice: Mapping[str, Any], end_words: Iterable[str]) -> Choice:
    message = choice.get("message")
    said = message if isinstance(message, Mapping) else {"content": choice.get("text")}
    content, word = said.get("content"), choice.get("finish_reason")
    text, reasoning = split_reasoning(_text(content), thoughts_of(said))
    text = without_end_words(text, end_words)
    if not (_is_text(text) and _is_text(reasoning or "")):
        return Choice("", None, UNANSWERED, "the text holds half of a surrogate pair, which is no text")
    how, told = ending(word), f"finish_reason {_shown(word)}"
    if said.get("refusal") or how == "refused":
        return Choice(text, reasoning, REFUSED, _shown(said.get("refusal") or word))
    if how != "whole":
        return Choice(text, reasoning, CUT if how == "cut" else UNANSWERED, told)
    if text.strip():
        return Choice(text, reasoning)
    if reasoning:
        return Choice(text, reasoning, CUT, "it ended within its reasoning")
    known = content is None or isinstance(content, str | list)
    return Choice(text, reasoning, UNANSWERED, "the text is empty" if known else f"the content is no text but {_shown(content)}")


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
        parts = (part.get("text") for part in content if isinstance(part, Mapping) and part.get("type") == "text")
        return "".join(part for part in parts if isinstance(part, str))
    return content if isinstance(content, str) else ""

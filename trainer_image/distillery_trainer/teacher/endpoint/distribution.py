"""Log-probabilities of an API as distributions over the tokenizer's ids: for those answers alone whose tokens are certain.

An API names tokens by their text. The answer is tokenized again, and only where that gives the server's tokens, one by one, do its
distributions belong to the ids that the student is trained on. Other answers are learned from as text.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from distillery_trainer.data.templates import Renderer

from .token_bytes import TokenBytes

#: Why an answer has no distribution.
NONE_GIVEN, OTHER_TOKENS, NOT_NORMALISED, REASONED = "noLogprobs", "otherTokens", "notNormalised", "reasoned"
#: Of a row whose other samples did not come.
INCOMPLETE = "incomplete"
#: By how much probabilities may add up to more than 1: servers round.
_SLACK = 1e-3
#: Below it a probability is 0 in float32; some servers write -9999 for "not computed".
_LEAST = -100.0


@dataclass(frozen=True)
class Distribution:
    """ids int32 [tokens, k], logprobs float32 [tokens, k], tail float32 [tokens]: of the first tokens of a completion, in order.

    Lines with fewer than k known tokens repeat their first id with -inf.
    """

    ids: np.ndarray[Any, np.dtype[np.int32]]
    logprobs: np.ndarray[Any, np.dtype[np.float32]]
    tail: np.ndarray[Any, np.dtype[np.float32]]

    def __len__(self) -> int:
        return len(self.ids)


class _Token(NamedTuple):
    """A token as a server names it."""

    data: bytes
    number: int | None
    logprob: float
    alternatives: tuple[_Token, ...] = ()


class Reader:
    """Reads the log-probabilities of answers for one tokenizer, k alternatives each."""

    def __init__(self, renderer: Renderer, k: int) -> None:
        self._renderer, self._k = renderer, k
        self._table = TokenBytes(renderer.tokenizer)

    def read(self, text: str, logprobs: Mapping[str, Any] | None) -> Distribution | str:
        """The distributions over the tokens of an answer, with the end of the turn where the server gives it; else why there are none."""
        tokens = _tokens(logprobs)
        if not tokens or any(not token.alternatives for token in tokens):
            return NONE_GIVEN
        ids = self._renderer.completion_ids(text)
        written = len(ids) - len(self._renderer.end)
        if not written <= len(tokens) <= written + 1 or not all(map(self._same, tokens, ids)):
            return OTHER_TOKENS
        lines = [self._line(token.alternatives) for token in tokens]
        if any(line is None for line in lines):
            return NOT_NORMALISED
        return _stacked([line for line in lines if line is not None], self._k)

    def _same(self, token: _Token, index: int) -> bool:
        return self._id(token) == index or (not token.data and token.number is None and index in self._table.special)

    def _id(self, token: _Token) -> int | None:
        """The id that a server's token is, if that is certain: its own word counts only where the bytes agree."""
        if token.number is not None:
            known = self._table.of(token.number)
            certain = known == token.data or (not token.data and token.number in self._table.special)
            return token.number if certain else None
        return self._table.find(token.data) if token.data else None

    def _line(self, alternatives: Sequence[_Token]) -> tuple[list[int], list[float], float] | None:
        """(ids, log-probabilities, tail). A token that the tokenizer does not know counts in the tail."""
        known: dict[int, float] = {}
        for token in alternatives[: self._k]:
            index = self._id(token)
            if index is not None and index not in known and token.logprob > _LEAST:
                known[index] = token.logprob
        total = math.fsum(map(math.exp, known.values()))
        if not known or total > 1 + _SLACK:
            return None
        return list(known), list(known.values()), max(0.0, 1.0 - total)


def _stacked(lines: Sequence[tuple[list[int], list[float], float]], k: int) -> Distribution:
    ids = [[*known, *([known[0]] * (k - len(known)))] for known, _, _ in lines]
    logprobs = [[*values, *([-math.inf] * (k - len(values)))] for _, values, _ in lines]
    tail = [rest for _, _, rest in lines]
    return Distribution(np.array(ids, np.int32), np.array(logprobs, np.float32), np.array(tail, np.float32))


def _tokens(logprobs: Mapping[str, Any] | None) -> list[_Token]:
    """The tokens of either form: `content` of chat answers, which some servers give for texts too, or the lists of text completions."""
    if not isinstance(logprobs, Mapping):
        return []
    if isinstance(content := logprobs.get("content"), list):
        return [_token(entry) for entry in content if isinstance(entry, Mapping)]
    names, tops = logprobs.get("tokens"), logprobs.get("top_logprobs")
    if not isinstance(names, list) or not isinstance(tops, list) or len(names) != len(tops):
        return []
    return [_Token(_bytes(name), None, 0.0, _alternatives(top)) for name, top in zip(names, tops, strict=True)]


def _alternatives(top: Any) -> tuple[_Token, ...]:
    """Of a text completion: log-probability by name."""
    given = top if isinstance(top, Mapping) else {}
    return tuple(_Token(_bytes(name), None, _number(value)) for name, value in given.items())


def _token(entry: Mapping[str, Any]) -> _Token:
    data, index, tops = entry.get("bytes"), entry.get("id"), entry.get("top_logprobs")
    whole = isinstance(data, list) and all(isinstance(byte, int) and 0 <= byte < 256 for byte in data)
    given = bytes(data) if whole and data is not None else _bytes(entry.get("token"))
    alternatives = (
        tuple(_token({**top, "top_logprobs": None}) for top in tops if isinstance(top, Mapping)) if isinstance(tops, list) else ()
    )
    number = index if isinstance(index, int) and not isinstance(index, bool) else None
    return _Token(given, number, _number(entry.get("logprob")), alternatives)


def _bytes(name: Any) -> bytes:
    """Of a token's name. One that is no UTF-8 stands for no token: its bytes agree with none."""
    return name.encode(errors="surrogatepass") if isinstance(name, str) else b""


def _number(value: Any) -> float:
    """-inf for what is no number, and for one that is 0 as a probability; inf for what is above any probability, however large."""
    if not isinstance(value, int | float) or isinstance(value, bool):
        return -math.inf
    # compared before it is converted: an integer may be too large for that
    if value > _SLACK:
        return math.inf
    return float(value) if value > _LEAST else -math.inf

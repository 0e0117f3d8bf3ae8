"""Prices as exact integers, the bound of a request before it is sent and its cost afterwards.

Unit: atto-dollars (1e-18) per token, so that a price with 12 decimals per million tokens is a whole number. Only the sum of a request is
rounded, up, to nano-dollars.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

#: Atto-dollars in a nano-dollar.
_ATTO: Final = 10**9


#: How servers name the part of the prompt that was written to a cache, that was read from one, and the output that was reasoning: the
#: objects of details, and names that stand in them or beside the totals.
_Names = tuple[tuple[str, ...], frozenset[str]]
_OF_PROMPT: Final = ("prompt_tokens_details", "input_tokens_details")
_WRITTEN: Final[_Names] = (
    _OF_PROMPT,
    frozenset(
        (
            "cache_creation_tokens",
            "cached_creation_tokens",
            "cache_write_tokens",
            "prompt_cache_write_tokens",
            "cache_write_input_tokens",
            "cache_creation_input_tokens",
            # by how long they are kept: {ephemeral_5m_input_tokens, ephemeral_1h_input_tokens}
            "cache_creation",
            "cache_creation_token_details",
        )
    ),
)
_READ: Final[_Names] = (
    _OF_PROMPT,
    frozenset(("cached_tokens", "num_cached_tokens", "prompt_cache_hit_tokens", "cache_read_tokens", "cache_read_input_tokens")),
)
_REASONING: Final[_Names] = (("completion_tokens_details", "output_tokens_details"), frozenset(("reasoning_tokens",)))


class BadUsage(ValueError):
    """The teacher's `usage` is no account of tokens; the message says which field."""


@dataclass(frozen=True, slots=True)
class Rate:
    """Atto-dollars per token for prompts of more than `over` tokens: the whole request is billed at one rate."""

    over: int
    input: int
    cached: int
    written: int
    output: int


@dataclass(frozen=True, slots=True)
class Tariff:
    """The rates of one hour and service tier, the one for the shortest prompts first, and atto-dollars per request."""

    rates: tuple[Rate, ...]
    request: int = 0

    def at(self, prompt_tokens: int) -> Rate:
        """The rate for a prompt of this length."""
        found = self.rates[0]
        for rate in self.rates[1:]:
            if prompt_tokens > rate.over:
                found = rate
        return found

    def most(self, input_tokens: int, output_tokens: int) -> int:
        """Atto-dollars that no request within these bounds exceeds, whatever part of its prompt was read from or written to a cache."""
        reachable = (rate for rate in self.rates if rate is self.rates[0] or input_tokens > rate.over)
        return max(max(rate.input, rate.cached, rate.written) * input_tokens + rate.output * output_tokens for rate in reachable)


@dataclass(frozen=True, slots=True)
class PriceList:
    """What a teacher costs at one moment, and what it may cost at most for a request that is sent then."""

    standard: Tariff
    """At this moment, where the answer names no service tier that has a price of its own."""
    tiers: tuple[tuple[str, Tariff], ...]
    """At this moment, by the `service_tier` that an answer names."""
    possible: tuple[Tariff, ...]
    """Of all service tiers and of all hours until the end of the next day: an answer may be billed when it ends."""
    valid_until: datetime | None
    """When `standard` or `tiers` change; None: not before the budget does."""
    digest: str
    """sha256 of all prices of the model, at any hour, with their source."""
    source: str
    """For people: where the prices are from."""

    def tariff(self, service_tier: str | None) -> Tariff:
        """The tariff that an answer is billed at."""
        return next((tariff for name, tariff in self.tiers if name == service_tier), self.standard)


def worst_case(prices: PriceList, input_tokens: int, output_tokens: int, n: int = 1) -> int:
    """Nano-dollars that a request with `n` answers cannot exceed: `input_tokens` bounds its prompt, `output_tokens` each answer.

    Servers differ in whether they bill the prompt once or for each answer, and whether `n` answers are one request, so each counts.
    """
    bound = max(tariff.most(n * input_tokens, n * output_tokens) + n * tariff.request for tariff in prices.possible)
    return _nano(bound)


def cost(prices: PriceList, usage: Mapping[str, Any], service_tier: str | None = None) -> int:
    """Nano-dollars of an answer, from its `usage` and `service_tier` as the OpenAI API gives them; BadUsage where tokens are missing.

    What was written to a cache counts first: it is the dearest part of a prompt.
    """
    prompt, output = tokens(usage)
    written, cached = (_most(usage, names) for names in (_WRITTEN, _READ))
    written = min(prompt, written)
    cached = min(prompt - written, cached)
    tariff = prices.tariff(service_tier)
    rate = tariff.at(prompt)
    fresh = prompt - cached - written
    return _nano(fresh * rate.input + cached * rate.cached + written * rate.written + output * rate.output + tariff.request)


def tokens(usage: Mapping[str, Any]) -> tuple[int, int]:
    """Tokens that are billed as input and as output; BadUsage where they are missing.

    Some servers leave reasoning out of `completion_tokens`: it shows in a larger `total_tokens`, or as more reasoning than completion.
    Anthropic leaves what it wrote to or read from its cache out of the prompt, which shows where that is more than the prompt.
    """
    prompt, completion = _count(usage, "prompt_tokens", required=True), _count(usage, "completion_tokens", required=True)
    reasoning = _most(usage, _REASONING)
    if reasoning > completion:
        completion += reasoning
    # all that `cost` reads, so that it has nothing left to refuse
    if _most(usage, _WRITTEN) + _most(usage, _READ):
        beside = _count(usage, "cache_creation_input_tokens") + _count(usage, "cache_read_input_tokens")
    else:
        beside = 0
    if beside > prompt:
        prompt += beside
    return prompt, max(completion, _count(usage, "total_tokens") - prompt)


def _most(usage: Mapping[str, Any], names: _Names) -> int:
    """The largest of the counts that go by these names."""
    outer, known = names
    places = [usage]
    for name in outer:
        details = usage.get(name) or {}
        if type(details) is not dict and not isinstance(details, Mapping):
            raise BadUsage(f"usage.{name} is {str(details)[:80]!r}; it has to be an object")
        places.append(details)
    return max((_total(place, field) for place in places for field in known & place.keys()), default=0)


def _total(place: Mapping[str, Any], field: str) -> int:
    """A count, or the sum of an object of counts."""
    parts = place[field]
    return sum(_count(parts, name) for name in parts) if isinstance(parts, Mapping) else _count(place, field)


def _count(usage: Mapping[str, Any], field: str, required: bool = False) -> int:
    value = usage.get(field)
    if value is None and not required:
        return 0
    if type(value) is not int or value < 0:
        raise BadUsage(f"usage.{field} is {str(value)[:80]!r}; it has to be a whole number of at least 0")
    return value


def _nano(atto: int) -> int:
    return -(-atto // _ATTO)

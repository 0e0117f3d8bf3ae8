"""What a job will cost, before anything is bought: a guess from the size of its prompts, and the bound that the gateway holds."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from fractions import Fraction
from typing import Final, NamedTuple

from distillery.api.budget import BudgetTeacher, Limits
from distillery.prices import PriceList, cost, worst_case
from distillery.prices.bound import template_tokens

from .prompts import Ask


class Guess(NamedTuple):
    """Bytes of a prompt in one token, and the part of their limit that answers take."""

    name: str
    bytes_per_token: int
    answer: Fraction


#: Byte-level tokenizers make a token of about four bytes of English, of fewer of other languages. How long answers are, nobody knows.
GUESSES: Final = (Guess("low", 6, Fraction(1, 10)), Guess("mean", 4, Fraction(1, 2)), Guess("high", 2, Fraction(1)))
#: Tokens that a chat template adds to a prompt, guessed likewise.
TEMPLATE: Final = 8


@dataclass(frozen=True)
class Line:
    """Requests of one sort under one guess; amounts in nano-dollars."""

    requests: int
    input_tokens: int
    output_tokens: int
    cost: int

    def __add__(self, other: Line) -> Line:
        """Both together."""
        return Line(
            self.requests + other.requests,
            self.input_tokens + other.input_tokens,
            self.output_tokens + other.output_tokens,
            self.cost + other.cost,
        )

    def times(self, count: int) -> Line:
        """As often as `count`."""
        return Line(self.requests * count, self.input_tokens * count, self.output_tokens * count, self.cost * count)


@dataclass(frozen=True)
class Fit:
    """A limit of the budget, and whether the job fits what is free of it at most. Nano-dollars or tokens."""

    window: str
    unit: str
    limit: int
    verdict: str
    stops: bool
    """Whether not even one request can be held within it."""


def guessed(ask: Ask, teacher: BudgetTeacher, prices: PriceList, guess: Guess) -> Line:
    """Tokens and cost of the requests, if every prompt and answer were average."""
    prompts = ask.prompts
    if not prompts.count:
        return Line(0, 0, 0, 0)
    prompt = TEMPLATE + -(-prompts.size // (prompts.count * guess.bytes_per_token))
    answer = max(1, round(guess.answer * min(ask.limit, teacher.max_completion_tokens))) * ask.samples
    each = cost(prices, {"prompt_tokens": prompt, "completion_tokens": answer})
    return Line(prompts.count, prompts.count * prompt, prompts.count * answer, prompts.count * each)


def bound(ask: Ask, teacher: BudgetTeacher, prices: PriceList) -> Line:
    """What the gateway would hold for all of them: every byte a token, every answer at its limit, at the highest price of the day."""
    limit = min(ask.limit, teacher.max_completion_tokens)
    bounds = [tokens + template_tokens(teacher, 0) for tokens in ask.prompts.bounds]
    held = [worst_case(prices, tokens, limit, ask.samples) for tokens in bounds]
    return Line(len(held), ask.samples * sum(bounds), ask.samples * limit * len(held), sum(held))


def dearest(asks: Iterable[Ask], teacher: BudgetTeacher, prices: PriceList) -> Line:
    """The largest hold of a single request."""
    single = (
        Line(1, ask.samples * longest, ask.samples * limit, worst_case(prices, longest, limit, ask.samples))
        for ask in asks
        if ask.prompts.bounds
        and (longest := max(ask.prompts.bounds) + template_tokens(teacher, 0))
        and (limit := min(ask.limit, teacher.max_completion_tokens))
    )
    return max(single, key=lambda line: line.cost, default=Line(0, 0, 0, 0))


def fits(limits: Limits, low: Line, high: Line, single: Line) -> list[Fit]:
    """Each limit of a budget against the guesses and the largest hold."""

    def fit(window: str, unit: str, limit: int, least: int, most: int, one: int) -> Fit:
        if one > limit:
            return Fit(window, unit, limit, "is below what one request may cost", True)
        if least > limit:
            return Fit(window, unit, limit, "is too low even for the low guess", False)
        return Fit(window, unit, limit, "fits" if most <= limit else "may not be enough", False)

    def both(line: Line) -> int:
        return line.input_tokens + line.output_tokens

    money = [fit(name, "USD", limit, low.cost, high.cost, single.cost) for name, limit in limits.nano().items()]
    return money + [fit(name, "tokens", limit, both(low), both(high), both(single)) for name, limit in limits.in_tokens().items()]

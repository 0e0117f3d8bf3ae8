"""Costs against sums that were done by hand, and the bound that no answer within it exceeds."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from distillery.api.budget import BudgetTeacher
from distillery.prices import BadUsage, PriceList, cost, price_of, worst_case
from distillery.prices.tariff import Rate, Tariff, tokens

NOON = datetime(2026, 11, 25, 12, tzinfo=UTC)


def teacher(model: str = "m", url: str = "https://llm.example/v1", **prices: str) -> BudgetTeacher:
    return BudgetTeacher.model_validate({"name": "t", "baseURL": url, "model": model, "prices": prices})


def priced(**prices: str) -> PriceList:
    return price_of(teacher(**prices), NOON)


def usage(prompt: int, completion: int, **more: Any) -> dict[str, Any]:
    return {"prompt_tokens": prompt, "completion_tokens": completion, **more}


@pytest.mark.parametrize(
    ("prices", "used", "nano"),
    [
        # 1000 * 150 + 200 * 600 nano-dollars
        ({"inputPerMillion": "0.15", "outputPerMillion": "0.60"}, usage(1000, 200), 270_000),
        # 400 of the 1000 were cached: 600 * 150 + 400 * 75 + 200 * 600
        (
            {"inputPerMillion": "0.15", "cachedInputPerMillion": "0.075", "outputPerMillion": "0.60"},
            usage(1000, 200, prompt_tokens_details={"cached_tokens": 400}),
            240_000,
        ),
        # the same, as DeepSeek writes it
        (
            {"inputPerMillion": "0.15", "cachedInputPerMillion": "0.075", "outputPerMillion": "0.60"},
            usage(1000, 200, prompt_cache_hit_tokens=400, prompt_cache_miss_tokens=600),
            240_000,
        ),
        # no price of its own: cached input is input
        ({"inputPerMillion": "0.15", "outputPerMillion": "0.60"}, usage(1000, 200, prompt_tokens_details={"cached_tokens": 400}), 270_000),
        # 0.012 dollars per request, beside the tokens
        ({"inputPerMillion": "1", "outputPerMillion": "1", "perRequest": "0.012"}, usage(1, 1), 12_002_000),
        # 3 tokens at 0.000000001 dollars per million are 3e-6 nano-dollars: a request is rounded up once
        ({"inputPerMillion": "0.000000001", "outputPerMillion": "0"}, usage(3, 7), 1),
        ({"inputPerMillion": "0.0005", "outputPerMillion": "0.0005"}, usage(1, 1), 1),
        ({"inputPerMillion": "0", "outputPerMillion": "0"}, usage(1000, 1000), 0),
        # reasoning that is missing in completion_tokens is in total_tokens
        ({"inputPerMillion": "1", "outputPerMillion": "10"}, usage(100, 20, total_tokens=170), 800_000),
        ({"inputPerMillion": "1", "outputPerMillion": "10"}, usage(100, 20, total_tokens=120), 300_000),
        ({"inputPerMillion": "1", "outputPerMillion": "10"}, usage(100, 20, prompt_tokens_details=None), 300_000),
        # a server that claims more cached tokens than the prompt has
        (
            {"inputPerMillion": "1", "cachedInputPerMillion": "0", "outputPerMillion": "10"},
            usage(100, 20, prompt_tokens_details={"cached_tokens": 5000}),
            200_000,
        ),
    ],
)
def test_costs_done_by_hand(prices: dict[str, str], used: dict[str, Any], nano: int) -> None:
    assert cost(priced(**prices), used) == nano


@pytest.mark.parametrize(
    ("used", "field"),
    [
        ({}, "prompt_tokens"),
        ({"prompt_tokens": 1}, "completion_tokens"),
        (usage(-1, 1), "prompt_tokens"),
        (usage(1, True), "completion_tokens"),
        ({"prompt_tokens": 1.5, "completion_tokens": 1}, "prompt_tokens"),
        (usage(1, 1, total_tokens="3"), "total_tokens"),
        (usage(1, 1, prompt_tokens_details={"cached_tokens": -4}), "cached_tokens"),
        (usage(1, 1, prompt_tokens_details=[4]), "prompt_tokens_details"),
    ],
)
def test_a_usage_that_is_no_account_is_refused(used: dict[str, Any], field: str) -> None:
    with pytest.raises(BadUsage, match=field):
        cost(priced(inputPerMillion="1", outputPerMillion="1"), used)


def test_tokens_as_they_are_billed() -> None:
    assert tokens(usage(100, 20, total_tokens=170)) == (100, 70)
    assert tokens(usage(100, 20)) == (100, 20)


def test_the_bound_counts_prompt_output_and_request_for_each_answer() -> None:
    prices = priced(inputPerMillion="1", outputPerMillion="4", perRequest="0.001")
    assert worst_case(prices, 100, 10) == 100_000 + 40_000 + 1_000_000
    assert worst_case(prices, 100, 10, n=3) == 3 * (100_000 + 40_000 + 1_000_000)


def test_the_bound_takes_the_dearest_rate_that_the_prompt_can_reach() -> None:
    cliff = Tariff((Rate(0, 10**9, 10**8, 10**9, 2 * 10**9), Rate(1000, 3 * 10**9, 10**8, 10**9, 5 * 10**9)))
    prices = PriceList(cliff, (), (cliff,), None, "", "")
    assert worst_case(prices, 1000, 10) == 1000 + 20
    assert worst_case(prices, 1001, 10) == 3 * 1001 + 50
    assert worst_case(prices, 501, 10, n=2) == 3 * 1002 + 100
    assert cost(prices, usage(1000, 10)) == 1020
    assert cost(prices, usage(1001, 10)) == 3053


def test_the_bound_knows_that_writing_to_a_cache_can_cost_more_than_reading_the_prompt() -> None:
    dear = Tariff((Rate(0, 10**9, 10**8, 2 * 10**9, 10**9),))
    prices = PriceList(dear, (), (dear,), None, "", "")
    assert cost(prices, usage(100, 0, prompt_tokens_details={"cached_tokens": 10, "cache_write_tokens": 60})) == 30 + 1 + 120
    assert worst_case(prices, 100, 0) == 200


@pytest.mark.parametrize(
    "used",
    [
        usage(1000, 0, prompt_tokens_details={"cache_creation_tokens": 1000}),
        usage(1000, 0, prompt_tokens_details={"cache_write_tokens": 1000}),
        usage(1000, 0, prompt_tokens_details={"cached_tokens": 1000, "cache_write_tokens": 1000}),
        usage(1000, 0, cache_creation_input_tokens=1000),
        usage(1000, 0, cache_write_tokens=1000),
        # Alibaba's, and those that say how long it is kept
        usage(1000, 0, prompt_tokens_details={"cached_tokens": 0, "cache_creation_input_tokens": 1000, "cache_type": "ephemeral"}),
        usage(1000, 0, cache_creation={"ephemeral_5m_input_tokens": 400, "ephemeral_1h_input_tokens": 600}),
        usage(1000, 0, prompt_tokens_details={"cache_creation_token_details": {"ephemeral_5m_input_tokens": 1000}}),
        usage(1000, 0, input_tokens_details={"cache_write_tokens": 1000}),
        # Anthropic's own prompt has no cache in it
        usage(0, 0, cache_creation_input_tokens=1000),
    ],
)
def test_what_was_written_to_a_cache_is_paid_as_that_whatever_it_is_called(used: dict[str, Any]) -> None:
    dear = Tariff((Rate(0, 10**9, 10**8, 2 * 10**9, 10**9),))
    assert cost(PriceList(dear, (), (dear,), None, "", ""), used) == 2000


def test_anthropics_own_prompt_is_what_it_says_and_its_cache() -> None:
    dear = Tariff((Rate(0, 10**9, 10**8, 2 * 10**9, 10**9),))
    used = usage(10, 0, cache_creation_input_tokens=100, cache_read_input_tokens=50)
    assert tokens(used) == (160, 0)
    assert cost(PriceList(dear, (), (dear,), None, "", ""), used) == 10 + 2 * 100 + 5


@pytest.mark.parametrize(
    ("used", "output"),
    [
        (usage(10, 5, completion_tokens_details={"reasoning_tokens": 35}), 40),
        (usage(10, 5, output_tokens_details={"reasoning_tokens": 35}), 40),
        (usage(10, 5, reasoning_tokens=35), 40),
        (usage(10, 5, reasoning_tokens=35, total_tokens=80), 70),
        # the usual way: reasoning is part of the completion
        (usage(10, 50, completion_tokens_details={"reasoning_tokens": 35}), 50),
        (usage(10, 50, completion_tokens_details={"reasoning_tokens": None}), 50),
    ],
)
def test_reasoning_is_paid_wherever_it_is_counted(used: dict[str, Any], output: int) -> None:
    assert tokens(used) == (10, output)


TABLE = [
    ("openai", "gpt-4o-mini"),
    ("openai", "gpt-5.4"),
    ("openai", "gpt-5"),
    ("deepseek", "deepseek-v4-flash"),
    ("deepseek", "deepseek-chat"),
    ("anthropic", "claude-sonnet-4-5"),
    ("google", "gemini-2.5-pro"),
    ("mistral", "mistral-large-latest"),
]


@settings(max_examples=300)
@given(
    st.sampled_from(TABLE),
    st.datetimes(datetime(2025, 1, 1), datetime(2027, 12, 31)).map(lambda at: at.replace(tzinfo=UTC)),  # noqa: DTZ001
    st.integers(0, 500_000),
    st.integers(0, 20_000),
    st.integers(1, 4),
    st.data(),
)
def test_no_answer_within_the_bound_costs_more_than_its_hold_at_whatever_hour_it_is_billed(
    model: tuple[str, str], at: datetime, most_input: int, most_output: int, n: int, data: st.DataObject
) -> None:
    asked = teacher(model[1], source="genai-prices", provider=model[0])
    held = worst_case(price_of(asked, at), most_input, most_output, n)
    prompt = data.draw(st.integers(0, most_input * n))
    completion = data.draw(st.integers(0, most_output * n))
    cached = data.draw(st.integers(0, prompt + 10))
    written = data.draw(st.integers(0, prompt + 10))
    used = usage(prompt, completion, prompt_tokens_details={"cached_tokens": cached, "cache_write_tokens": written})
    billed = price_of(asked, at + timedelta(seconds=data.draw(st.integers(0, 24 * 3600))))
    tier = data.draw(st.sampled_from([None, "default", "priority", "flex", "fast", "unheard-of"]))
    assert 0 <= cost(billed, used, tier) <= held


amounts = st.decimals(0, 1000, places=9, allow_nan=False).map(lambda amount: f"{amount:.9f}")


@given(amounts, amounts, amounts, amounts, st.integers(0, 10**6), st.integers(0, 10**5), st.data())
def test_the_same_for_prices_of_the_budget(
    fresh: str, cached: str, output: str, request: str, most_input: int, most_output: int, data: st.DataObject
) -> None:
    prices = priced(inputPerMillion=fresh, cachedInputPerMillion=cached, outputPerMillion=output, perRequest=request)
    prompt, completion = data.draw(st.integers(0, most_input)), data.draw(st.integers(0, most_output))
    used = usage(prompt, completion, prompt_tokens_details={"cached_tokens": data.draw(st.integers(0, prompt))})
    assert cost(prices, used) <= worst_case(prices, most_input, most_output)

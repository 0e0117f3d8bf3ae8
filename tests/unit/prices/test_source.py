"""Prices from the budget and from the pinned table: which applies when, and what is refused."""

from __future__ import annotations

import socket
from datetime import UTC, datetime, timedelta, timezone
from decimal import ROUND_CEILING
from typing import Any

import pytest
from genai_prices import Usage, calc_price

from distillery.api.budget import BudgetTeacher
from distillery.api.money import NANO
from distillery.prices import PriceUnknown, cost, price_of, worst_case

NOON = datetime(2026, 11, 25, 12, tzinfo=UTC)


def teacher(url: str, model: str, **prices: str) -> BudgetTeacher:
    return BudgetTeacher.model_validate({"name": "t", "baseURL": url, "model": model, "prices": prices})


@pytest.fixture(autouse=True)
def _without_a_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise AssertionError("prices open no sockets")

    monkeypatch.setattr(socket.socket, "connect", refuse)


USED = {"prompt_tokens": 1000, "completion_tokens": 1000}


@pytest.mark.parametrize(
    ("url", "model", "nano"),
    [
        # dollars per million * 1000 tokens, in nano-dollars
        ("https://api.openai.com/v1", "gpt-4o-mini", 150_000 + 600_000),
        ("https://api.openai.com/v1", "gpt-4o-mini-2024-07-18", 150_000 + 600_000),
        ("https://api.openai.com/v1", "gpt-5", 1_250_000 + 10_000_000),
        ("https://team.openai.azure.com/openai/v1", "gpt-4o-mini", 150_000 + 600_000),
    ],
)
def test_the_provider_is_found_by_the_base_url(url: str, model: str, nano: int) -> None:
    assert cost(price_of(teacher(url, model, source="genai-prices"), NOON), USED) == nano


@pytest.mark.parametrize(
    ("clock", "nano", "until"),
    [
        ((0, 59), 150_000 + 600_000, (1, 0)),
        ((1, 0), 300_000 + 1_200_000, (4, 0)),
        ((3, 59), 300_000 + 1_200_000, (4, 0)),
        ((4, 0), 150_000 + 600_000, (6, 0)),
        ((6, 30), 300_000 + 1_200_000, (10, 0)),
    ],
)
def test_a_price_by_the_hour_is_billed_by_the_hour_and_held_at_the_peak(clock: tuple[int, int], nano: int, until: tuple[int, int]) -> None:
    at = datetime(2026, 11, 25, *clock, tzinfo=UTC)
    prices = price_of(teacher("https://api.deepseek.com/v1", "deepseek-v4-flash", source="genai-prices"), at)
    assert cost(prices, USED) == nano
    assert worst_case(prices, 1000, 1000) == 300_000 + 1_200_000
    assert prices.valid_until == datetime(2026, 11, 25, *until, tzinfo=UTC)


def test_the_hour_is_that_of_utc_whatever_the_zone_of_the_clock() -> None:
    asked = teacher("https://api.deepseek.com/v1", "deepseek-v4-flash", source="genai-prices")
    assert price_of(asked, datetime(2026, 11, 25, 4, tzinfo=timezone(timedelta(hours=2)))) == price_of(
        asked, datetime(2026, 11, 25, 2, tzinfo=UTC)
    )


def test_a_price_that_rises_tomorrow_is_held_today() -> None:
    asked = teacher("https://api.deepseek.com/v1", "deepseek-v4-flash", source="genai-prices")  # 0.14/0.28 until 2026-08-16, then 0.22/0.66
    before = price_of(asked, datetime(2026, 8, 15, 12, tzinfo=UTC))
    assert cost(before, USED) == 140_000 + 280_000
    assert worst_case(before, 1000, 1000) == 300_000 + 1_200_000  # the peak of the table comes first
    assert cost(price_of(asked, datetime(2026, 8, 17, 12, tzinfo=UTC)), USED) == 220_000 + 660_000


def test_a_service_tier_that_the_answer_names_has_its_price_and_any_may_be_given() -> None:
    prices = price_of(teacher("https://api.openai.com/v1", "gpt-5", source="genai-prices"), NOON)
    assert cost(prices, USED, "default") == cost(prices, USED, "unheard-of") == 11_250_000
    assert cost(prices, USED, "flex") == 5_625_000
    assert cost(prices, USED, "priority") == worst_case(prices, 1000, 1000) == 22_500_000


def test_a_long_prompt_is_billed_at_its_own_rate() -> None:
    prices = price_of(teacher("https://api.openai.com/v1", "gpt-5.4", source="genai-prices"), NOON)
    assert cost(prices, {"prompt_tokens": 272_000, "completion_tokens": 10}) == 272_000 * 2500 + 10 * 15_000
    assert cost(prices, {"prompt_tokens": 272_001, "completion_tokens": 10}) == 272_001 * 5000 + 10 * 22_500


def test_the_budget_overrides_single_prices_of_the_table() -> None:
    asked = teacher("https://api.openai.com/v1", "gpt-5", source="genai-prices", perRequest="0.001", cachedInputPerMillion="1.25")
    prices = price_of(asked, NOON)
    assert cost(prices, USED | {"prompt_tokens_details": {"cached_tokens": 1000}}) == 11_250_000 + 1_000_000


def test_the_digest_is_of_all_prices_and_not_of_the_hour() -> None:
    asked = teacher("https://api.deepseek.com/v1", "deepseek-v4-flash", source="genai-prices")
    peak, off_peak = (price_of(asked, datetime(2026, 11, 25, hour, tzinfo=UTC)) for hour in (2, 5))
    assert peak.standard != off_peak.standard
    assert peak.digest == off_peak.digest
    other = price_of(asked.model_copy(update={"prices": asked.prices.model_copy(update={"per_request": "1"})}), NOON)
    assert other.digest != peak.digest
    assert peak.source == "genai-prices 0.2.3, deepseek/deepseek-v4-flash"


def test_prices_of_the_budget_hold_until_it_changes() -> None:
    prices = price_of(teacher("http://vllm:8000/v1", "m", inputPerMillion="1", outputPerMillion="2"), NOON)
    assert prices.valid_until is None
    assert prices.source == "the budget"


@pytest.mark.parametrize(
    ("url", "model", "given", "says"),
    [
        ("https://llm.example/v1", "gpt-5", {}, 'has no price of "gpt-5" at https://llm.example/v1; set prices.provider'),
        ("https://api.openai.com/v1", "gpt-unheard-of", {}, 'has no price of "gpt-unheard-of"'),
        ("https://llm.example/v1", "gpt-5", {"provider": "unheard-of"}, 'has no price of "gpt-5" at unheard-of'),
        ("https://api.openai.com/v1", "tts-1", {}, "bills by input_mchars"),
        ("https://api.openai.com/v1", "gpt-4o-mini-search-preview", {}, "bills for searches that it makes by itself"),
        ("https://api.perplexity.ai", "sonar-deep-research", {}, "for searches"),
        ("https://api.openai.com/v1", "text-embedding-3-small", {}, "has no price per token"),
    ],
)
def test_what_nothing_bounds_is_refused(url: str, model: str, given: dict[str, str], says: str) -> None:
    with pytest.raises(PriceUnknown) as refused:
        price_of(teacher(url, model, source="genai-prices", **given), NOON)
    assert str(refused.value).startswith('spec.teachers["t"].prices: ')
    assert says in str(refused.value)


def test_a_provider_that_is_named_is_looked_up_at_any_base_url() -> None:
    prices = price_of(teacher("https://proxy.corp.example/v1", "gpt-5", source="genai-prices", provider="openai"), NOON)
    assert cost(prices, USED) == 11_250_000


@pytest.mark.parametrize("provider", ["openai", "anthropic", "deepseek", "mistral", "google", "x-ai", "groq"])
def test_the_whole_table_of_a_provider_is_read_as_the_package_reads_it(provider: str) -> None:
    from genai_prices.data import providers

    checked = 0
    for model in next(p for p in providers if p.id == provider).models:
        asked = teacher("https://llm.example/v1", model.id, source="genai-prices", provider=provider)
        try:
            prices = price_of(asked, NOON)
        except PriceUnknown:
            continue
        for prompt in (900, 300_000):
            theirs = calc_price(
                Usage(input_tokens=prompt, output_tokens=70, cache_read_tokens=100),
                model.id,
                provider_id=provider,
                genai_request_timestamp=NOON,
            )
            ours = cost(prices, {"prompt_tokens": prompt, "completion_tokens": 70, "prompt_tokens_details": {"cached_tokens": 100}})
            # rounded up
            assert ours == (theirs.total_price * NANO).to_integral_value(ROUND_CEILING), model.id
        checked += 1
    assert checked >= 5

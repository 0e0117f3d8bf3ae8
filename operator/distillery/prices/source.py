"""Where prices are from: the budget itself, or the table of genai-prices, which is pinned with its package and asked without a network."""

from __future__ import annotations

from datetime import UTC, datetime, time, timedelta
from decimal import ROUND_CEILING, Decimal
from functools import lru_cache
from typing import TYPE_CHECKING, Final

from distillery.api.budget import BudgetTeacher, Prices
from distillery.api.digest import digest

from .tariff import PriceList, Rate, Tariff

if TYPE_CHECKING:
    from genai_prices.types import ModelInfo, ModelPrice, TieredPrices

#: Atto-dollars per token in a dollar per million tokens, and per request in a dollar.
_PER_MILLION: Final = Decimal(10**12)
_PER_REQUEST: Final = Decimal(10**18)
#: What a chat request without tools, pictures or sound is never billed for.
_NOT_ASKED_FOR: Final = ("audio", "image", "video", "document", "web_searches", "storage_searches")
_UNDERSTOOD: Final = frozenset(
    ("input_mtok", "output_mtok", "cache_read_mtok", "cache_write_mtok", "cache_write_1h_mtok", "requests_kcount")
)
#: Rates of the batch endpoint, which the gateway does not call.
_BATCH: Final = {"processing": "batch"}


class PriceUnknown(Exception):
    """Nothing bounds what the teacher costs, so it is not asked; the message names the field and the remedy."""


def price_of(teacher: BudgetTeacher, at: datetime) -> PriceList:
    """The prices of a teacher for a request that is sent at `at`; PriceUnknown where nothing bounds them."""
    minute = at.astimezone(UTC).replace(second=0, microsecond=0)
    return _price_of(teacher.name, teacher.base_url, teacher.model, teacher.prices, minute)


@lru_cache(maxsize=1024)
def _price_of(name: str, base_url: str, model: str, given: Prices, minute: datetime) -> PriceList:
    if given.source is None:
        tariff = _overridden(Tariff((Rate(0, 0, 0, 0, 0),)), given)
        return PriceList(tariff, (), (tariff,), None, digest(given.wire()), "the budget")
    return _looked_up(f'spec.teachers["{name}"]', base_url, model, given, minute)


def _looked_up(field: str, base_url: str, model: str, given: Prices, minute: datetime) -> PriceList:
    # 30,000 lines of table: only a process that needs them pays the half second
    import genai_prices
    from genai_prices.data_snapshot import get_snapshot

    try:
        provider, found = get_snapshot().find_provider_model(model, None, given.provider, None if given.provider else base_url)
    except LookupError as error:
        where = given.provider or base_url
        raise PriceUnknown(
            f'{field}.prices: genai-prices {genai_prices.__version__} has no price of "{model}" at {where};'
            " set prices.provider, or inputPerMillion and outputPerMillion in place of source"
        ) from error
    source = f"genai-prices {genai_prices.__version__}, {provider.id}/{found.id}"
    _refuse_what_is_billed_otherwise(found, field, model, source)
    moments = _moments(found, minute)
    tiers = sorted({variant.when["service_tier"] for variant in found.price_variants or () if "service_tier" in variant.when})
    contexts = [None, *(variant.when for variant in found.price_variants or () if variant.when != _BATCH)]
    possible = dict.fromkeys(_overridden(_tariff(found.get_prices(m, c)), given) for m in moments for c in contexts)
    return PriceList(
        standard=_overridden(_tariff(found.get_prices(minute)), given),
        tiers=tuple((tier, _overridden(_tariff(found.get_prices(minute, {"service_tier": tier})), given)) for tier in tiers),
        possible=tuple(possible),
        valid_until=moments[1],
        digest=digest({"source": source, "prices": repr(found.prices), "variants": repr(found.price_variants), "given": given.wire()}),
        source=source,
    )


def _refuse_what_is_billed_otherwise(found: ModelInfo, field: str, model: str, source: str) -> None:
    conditional = [found.prices] if not isinstance(found.prices, list) else [part.prices for part in found.prices]
    for prices in [*conditional, *(variant.prices for variant in found.price_variants or ())]:
        units = {unit for unit, price in vars(prices).items() if price is not None}
        searches = "web_searches_kcount" in units and ("search" in model or "sonar" in model)
        unknown = {u for u in units - _UNDERSTOOD if not any(word in u for word in _NOT_ASKED_FOR)}
        if unknown or searches:
            what = "for searches that it makes by itself" if searches else f"by {', '.join(sorted(unknown))}"
            raise PriceUnknown(f'{field}.prices: "{model}" ({source}) bills {what}, which no bound is known for; choose another teacher')
    if any(prices.input_mtok is None or prices.output_mtok is None for prices in conditional):
        raise PriceUnknown(f'{field}.prices: "{model}" ({source}) has no price per token; set inputPerMillion and outputPerMillion')


def _moments(found: ModelInfo, minute: datetime) -> list[datetime]:
    """`minute`, then each moment until the end of the next day at which another price may begin."""
    clocks = {time(tzinfo=UTC)}
    constraints = [part.constraint for part in found.prices] if isinstance(found.prices, list) else []
    for constraint in constraints:
        for name in ("start_time", "end_time"):
            if (clock := getattr(constraint, name, None)) is not None:
                clocks.add(clock if clock.tzinfo else clock.replace(tzinfo=UTC))
    days = [minute.date() + timedelta(days=ahead) for ahead in (-1, 0, 1, 2)]
    begins = sorted({datetime.combine(day, clock).astimezone(UTC) for day in days for clock in clocks})
    end = datetime.combine(minute.date() + timedelta(days=2), time(tzinfo=UTC))
    return [minute, *(moment for moment in begins if minute < moment <= end)]


def _tariff(prices: ModelPrice) -> Tariff:
    """The price of the table as whole numbers; an inexact one is rounded up."""
    units: dict[str, Decimal | TieredPrices] = {
        unit: price for unit, price in vars(prices).items() if unit in _UNDERSTOOD and price is not None
    }
    starts = sorted({0, *(tier.start for price in units.values() if not isinstance(price, Decimal) for tier in price.tiers)})
    request = units.get("requests_kcount", Decimal(0))
    return Tariff(tuple(_rate(units, start) for start in starts), _whole(_above(request, 0) / 1000 * _PER_REQUEST))


def _rate(units: dict[str, Decimal | TieredPrices], start: int) -> Rate:
    def per_token(unit: str, otherwise: str) -> int:
        return _whole(_above(units.get(unit, units[otherwise]), start) * _PER_MILLION)

    written = [per_token(unit, "input_mtok") for unit in ("cache_write_mtok", "cache_write_1h_mtok")]
    return Rate(
        start,
        input=per_token("input_mtok", "input_mtok"),
        cached=per_token("cache_read_mtok", "input_mtok"),
        written=max(written),
        output=per_token("output_mtok", "output_mtok"),
    )


def _above(price: Decimal | TieredPrices, start: int) -> Decimal:
    """A price, or that of the last of its tiers which begins at or below `start`."""
    if isinstance(price, Decimal):
        return price
    below = [tier.price for tier in price.tiers if tier.start <= start]
    return below[-1] if below else price.base


def _overridden(tariff: Tariff, given: Prices) -> Tariff:
    """With what the budget says itself."""

    def per_token(amount: str | None, otherwise: int) -> int:
        return otherwise if amount is None else _whole(Decimal(amount) * _PER_MILLION)

    def rate(found: Rate) -> Rate:
        fresh = per_token(given.input_per_million, found.input)
        # the budget's own input price is also that of its cache, unless it says otherwise
        own = given.input_per_million is not None
        cached = per_token(given.cached_input_per_million, fresh if own else found.cached)
        return Rate(found.over, fresh, cached, fresh if own else found.written, per_token(given.output_per_million, found.output))

    request = tariff.request if given.per_request is None else _whole(Decimal(given.per_request) * _PER_REQUEST)
    return Tariff(tuple(rate(found) for found in tariff.rates), request)


def _whole(amount: Decimal) -> int:
    return int(amount.to_integral_value(ROUND_CEILING))

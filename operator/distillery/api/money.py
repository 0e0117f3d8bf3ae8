"""Money: decimal strings of US dollars in manifests, integer nano-dollars everywhere else. No floats."""

from __future__ import annotations

from decimal import Decimal
from typing import Annotated

from pydantic import StringConstraints

from .rules import Spelling

#: 1 US dollar. 9,223,372,036 dollars fit a signed 64-bit integer.
NANO = 1_000_000_000
#: An amount of US dollars of at least 0, at most 9 digits before and 9 after the point.
Money = Annotated[
    str,
    StringConstraints(max_length=19),
    Spelling(r"^[0-9]{1,9}(\.[0-9]{1,9})?$", 'must be an amount of US dollars in quotes, for example "125.00"'),
]


def nano_usd(amount: str) -> int:
    """A validated amount in nano-dollars, exactly."""
    return int(Decimal(amount) * NANO)


def usd(nano: int) -> str:
    """Dollars as a decimal string: exact, with at least two digits after the point."""
    whole, part = divmod(abs(nano), NANO)
    digits = f"{part:09d}".rstrip("0").ljust(2, "0")
    return f"{'-' if nano < 0 else ''}{whole}.{digits}"

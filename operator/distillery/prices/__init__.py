"""What a request to a teacher may cost at most, and what it has cost: exact, in nano-dollars, without a network.

Pure: the moment is an argument, the table is part of a pinned package. Called by the gateway for each request and by `distill plan`.
"""

from .source import PriceUnknown, price_of
from .tariff import BadUsage, PriceList, cost, worst_case

__all__ = ["BadUsage", "PriceList", "PriceUnknown", "cost", "price_of", "worst_case"]

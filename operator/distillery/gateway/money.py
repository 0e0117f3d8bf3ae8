"""Amounts of accounts as people and the API read them."""

from __future__ import annotations

from typing import Literal

from distillery.api.money import usd
from distillery.timestamps import stamp

from .ledger import Refusal, ends

Unit = Literal["USD", "tokens"]


def plain(value: int, unit: Unit) -> str:
    """As a status has it: "12.50", or a number of tokens."""
    return usd(value) if unit == "USD" else str(value)


def amount(value: int, unit: Unit) -> str:
    """In a sentence: 12.50 USD, or 4000 tokens."""
    return f"{plain(value, unit)} {'USD' if unit == 'USD' else 'tokens'}"


def shortage(refusal: Refusal) -> str:
    """What a refused account lacks, with the remedy; what stands before the colon names the occasion."""
    account = refusal.account
    window = account.window if account.window in ("perJob", "total") else f"{account.window} {account.id}"
    limit = amount(account.limit or 0, account.unit)
    text = f"{window}{'' if account.unit == 'USD' else ' in tokens'}: the limit of {limit} has {amount(refusal.free, account.unit)} left"
    need = f" and a request can cost up to {amount(refusal.needed, account.unit)}" if refusal.free else ""
    field = f"spec.limits{'.tokens' if account.unit == 'tokens' else ''}.{account.window}"
    end = ends(account)
    until = "" if end is None else f", or wait until {stamp(end)}"
    return f'{text}{need}; raise {field} of TeacherBudget "{account.budget}"{until}'

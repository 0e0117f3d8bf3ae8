"""Answers that were bought: found again in the ledger's index, wherever their bodies lie."""

from __future__ import annotations

from dataclasses import dataclass

from .ledger import Ledger


@dataclass(frozen=True, slots=True)
class Kept:
    """An answer with its body, what it cost, and the terms that it was bought under."""

    body: bytes
    cost: int
    terms: str


class Answers:
    """The cache."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger

    async def find(self, key: str) -> Kept | None:
        """The answer of a question, if it was bought before."""
        found = await self._ledger.answer(key)
        if found is None or found.body is None:
            return None
        return Kept(found.body, found.cost, found.terms)

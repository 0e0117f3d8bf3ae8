"""What can be asked of the ledger: each operation says which rows it reads, and changes them in memory.

An operation that raises leaves the book in order (a refusal may have given back a reservation), so the others of its batch go on.
Applied twice, as after a commit whose outcome was unknown, each that moves money has the effect of once.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol

from .book import Book
from .contract import Account, JobRef

#: Times as the ledger writes them: from, to.
Span = tuple[str, str]


@dataclass(slots=True)
class Wanted:
    """Rows that a batch reads."""

    accounts: list[Account] = field(default_factory=list)
    jobs: set[JobRef] = field(default_factory=set)
    holds: set[str] = field(default_factory=set)
    answers: set[str] = field(default_factory=set)
    questions: set[str] = field(default_factory=set)
    """Keys of questions: whether another gateway asks them, or has their answers, where there are others."""
    jobs_seen: Span | None = None
    """Open reservations whose sign of life lies outside of it are read."""
    writers_seen: Span | None = None
    """Holds of gateways whose sign of life lies outside of it are read."""
    gateways_seen: Span | None = None
    """Gateways whose sign of life lies within it are read, where there may be several."""
    overruns: set[str] = field(default_factory=set)
    """Budgets whose accounts with an overrun are read."""


class Operation(Protocol):
    """One thing to do in a transaction."""

    def wants(self, wanted: Wanted) -> None:
        """Name the rows that `apply` reads."""

    def apply(self, book: Book) -> object:
        """Do it, or raise a LedgerError."""

    def afterwards(self) -> Operation | None:
        """What to do as soon as the database is back when this could not be committed and the caller was told so."""

"""The exact ledger of teacher budgets: double entry, one writer, nothing granted that does not fit."""

from .contract import (
    LARGEST,
    Account,
    Answer,
    AskedElsewhere,
    Fenced,
    Granted,
    Head,
    Hold,
    HoldResolved,
    JobRef,
    JobUsage,
    LedgerError,
    Need,
    ReadOnly,
    Refusal,
    Settled,
    StoredAnswer,
    Swept,
    Unavailable,
    WindowUse,
)
from .ledger import Ledger
from .why import Why
from .windows import accounts_of, ends, hold_id

__all__ = [
    "LARGEST", "Account", "Answer", "AskedElsewhere", "Fenced", "Granted", "Head", "Hold", "HoldResolved", "JobRef", "JobUsage", "Ledger",
    "LedgerError", "Need", "ReadOnly", "Refusal", "Settled", "StoredAnswer", "Swept", "Unavailable", "Why", "WindowUse", "accounts_of",
    "ends", "hold_id",
]  # fmt: skip

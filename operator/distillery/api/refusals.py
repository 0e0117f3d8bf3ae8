"""What the gateway answers where it gives no answer of a teacher: one table for it, for the stages that ask, and for the operator.

A reason travels as the `code` of an error object, in snake case; the table says with which status, and whose it is to put right.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final, Literal, NamedTuple

from . import reasons

#: terms, money, setup: the platform team's, which can heal it; until then the stage rests, and no attempt is counted. moment: the run is
#: being taken back, or not yet paid for; the pod waits. ledger, teacher, gateway: down for now, or in doubt. request: the caller's own fault.
Cause = Literal["terms", "money", "setup", "moment", "ledger", "teacher", "gateway", "request"]
HEALED: Final[tuple[Cause, ...]] = ("terms", "money", "setup")


class Refusal(NamedTuple):
    """A kind of refusal. `told_as` is the reason that a stage ends with because of it."""

    reason: str
    status: int
    cause: Cause
    told_as: str

    @property
    def code(self) -> str:
        """As the error object has it."""
        return snake(self.reason)


def snake(reason: str) -> str:
    """BaseURLForbidden: base_url_forbidden."""
    return re.sub(r"(?<=[a-z])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", reason).lower()


def _of(cause: Cause, status: int, *named: str) -> tuple[Refusal, ...]:
    return tuple(Refusal(reason, status, cause, reason) for reason in named)


_ALL: Final = (
    *_of("terms", 403, reasons.TERMS_FORBID_USE, reasons.TERMS_UNKNOWN, reasons.APPROVAL_NEEDED, reasons.APPROVAL_EXPIRED),
    *_of("money", 429, reasons.BUDGET_EXHAUSTED, reasons.BUDGET_PAUSED, reasons.OVERRUN),
    *_of("setup", 403, reasons.CREDENTIAL_MISSING, reasons.CREDENTIAL_FORBIDDEN, reasons.BASE_URL_FORBIDDEN),
    *_of("setup", 403, reasons.PRICE_UNKNOWN, reasons.SCOPE_FORBIDDEN),
    *_of("setup", 404, reasons.TEACHER_UNKNOWN, reasons.BUDGET_MISSING),
    # what the interface of the API calls it
    Refusal(reasons.MODEL_NOT_FOUND, 404, "setup", reasons.TEACHER_UNKNOWN),
    *_of("moment", 403, reasons.BEING_DELETED, reasons.JOB_ENDED, reasons.CANCELLED, reasons.SUSPENDED, reasons.NOT_RESERVED),
    *_of("moment", 403, reasons.ANOTHER_RUN, reasons.RUN_ENDED, reasons.POD_ENDED),
    *_of("ledger", 503, reasons.LEDGER_READ_ONLY),
    *_of("teacher", 502, reasons.TEACHER_FAILED, reasons.IN_DOUBT),
    *_of("teacher", 503, reasons.TEACHER_UNAVAILABLE),
    *_of("gateway", 503, reasons.GATEWAY_UNAVAILABLE),
    *_of("gateway", 429, reasons.RATE_LIMIT_EXCEEDED),
    *_of("request", 400, reasons.INVALID_REQUEST),
    *_of("request", 403, reasons.INVALID_SPEC),
)
REFUSALS: Final[Mapping[str, Refusal]] = {refusal.reason: refusal for refusal in _ALL}
BY_CODE: Final[Mapping[str, Refusal]] = {refusal.code: refusal for refusal in _ALL}


def reasons_of(*causes: Cause) -> frozenset[str]:
    """The reasons of these causes."""
    return frozenset(refusal.reason for refusal in _ALL if refusal.cause in causes)

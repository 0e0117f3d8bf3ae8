"""What a caller is told when it gets no answer: the error object of the OpenAI API, so that every SDK raises it as its own."""

from __future__ import annotations

import json
import reprlib
from datetime import datetime
from typing import Any, Final

from distillery.api import reasons
from distillery.api.refusals import REFUSALS, reasons_of, snake
from distillery.timestamps import stamp

from .ledger import LedgerError, ReadOnly

#: What this interface alone says.
INVALID_REQUEST, MODEL_NOT_FOUND, RATE_LIMIT_EXCEEDED = reasons.INVALID_REQUEST, reasons.MODEL_NOT_FOUND, reasons.RATE_LIMIT_EXCEEDED
TEACHER_UNAVAILABLE, IN_DOUBT = reasons.TEACHER_UNAVAILABLE, reasons.IN_DOUBT

#: What a caller sent is told back in at most so many characters.
_SHOWN: Final = 120
_SHORT = reprlib.Repr()
_SHORT.maxstring, _SHORT.maxlong, _SHORT.maxother = _SHOWN, 40, 60
_NO_MONEY = reasons_of("money")
_TYPES = {400: "invalid_request_error", 401: "authentication_error", 403: "permission_error", 404: "not_found_error"}


class Refused(Exception):
    """The caller gets no answer. `reason` is CamelCase, `param` the field of the request that is wrong.

    `retry_after` (seconds) says that the same request may be answered later; without it a retry cannot help, and clients are told so.
    """

    def __init__(
        self,
        status: int,
        reason: str,
        message: str,
        *,
        param: str | None = None,
        retry_after: float | None = None,
        resumes: datetime | None = None,
    ) -> None:
        super().__init__(message)
        self.status, self.reason, self.message = status, reason, message
        self.param, self.retry_after, self.resumes = param, retry_after, resumes

    def body(self) -> dict[str, Any]:
        """As JSON."""
        kind = "insufficient_quota" if self.reason in _NO_MONEY else _TYPES.get(self.status)
        kind = kind or ("rate_limit_error" if self.status == 429 else "server_error")
        error = {"message": self.message, "type": kind, "param": self.param, "code": snake(self.reason), "reason": self.reason}
        return {"error": error}

    def text(self) -> str:
        """The body of a response."""
        return sendable(json.dumps(self.body(), ensure_ascii=False))

    def headers(self) -> dict[str, str]:
        """What clients obey."""
        headers = {"WWW-Authenticate": "Bearer"} if self.status == 401 else {}
        if self.retry_after is not None:
            headers["Retry-After"] = str(max(1, round(self.retry_after)))
        elif self.reason != IN_DOUBT:
            headers["x-should-retry"] = "false"
        if self.resumes is not None:
            headers["X-Distillery-Resumes"] = stamp(self.resumes)
        return headers


class StoreUnavailable(Exception):
    """The object store of answers does not do what it is asked; the message says what."""


def refusal(reason: str, message: str, *, retry_after: float | None = None, resumes: datetime | None = None) -> Refused:
    """A refusal whose status follows from its reason."""
    return Refused(REFUSALS[reason].status, reason, message, retry_after=retry_after, resumes=resumes)


def no_ledger(error: LedgerError) -> Refused:
    """What a caller is told where the ledger grants nothing to anybody."""
    if isinstance(error, ReadOnly):
        return refusal(reasons.LEDGER_READ_ONLY, str(error), retry_after=60.0)
    return refusal(reasons.GATEWAY_UNAVAILABLE, f"the ledger does not answer, so nothing is granted: {error}", retry_after=5.0)


def invalid(param: str | None, message: str) -> Refused:
    """400: the request itself is wrong, in this field."""
    return Refused(400, INVALID_REQUEST, message, param=param)


def shown(value: object) -> str:
    """A value from a request, in the short form in which a message names it."""
    return _SHORT.repr(value)[:_SHOWN]


def sendable(text: str) -> str:
    """With a question mark for what no UTF-8 can hold: half of a surrogate pair, which JSON can."""
    return text if text.isascii() else text.encode(errors="replace").decode()

"""Why a hold ended without a bill, or an answer was dropped: a closed list, so that no word from outside enters rows that stay for ever."""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum

#: A request id as providers make them; anything else in its place is left out.
_REQUEST_ID = re.compile(r"[A-Za-z0-9_.:-]{1,128}")


class Why(StrEnum):
    """What happened. What the other side said about it stands in the log alone. (Ledgers of before this list have sentences here.)"""

    # in doubt: sent, and nobody but the provider knows
    TIMEOUT = "timeout"
    CONNECTION_LOST = "connection-lost"
    STREAM_CUT = "stream-cut"
    TOO_LONG = "answer-too-long"
    UNREADABLE = "unreadable-answer"
    NO_USAGE = "no-usage"
    UNREADABLE_USAGE = "unreadable-usage"
    FAILED = "teacher-failed"
    """With its status: 500, 502, 504, …"""
    GATEWAY_FAULT = "gateway-fault"
    GATEWAY_ENDED = "gateway-ended"
    # released: surely not billed
    NOT_SENT = "not-sent"
    """Something failed before the first byte."""
    UNREACHABLE = "unreachable"
    BUSY = "teacher-busy"
    TURNED_AWAY = "turned-away"
    """The credential, the account, the model or the address is wrong."""
    REFUSED = "refused-by-teacher"
    """The request itself is wrong for this teacher."""
    CALLER_LEFT = "caller-left"
    """Before the request was sent."""
    COMMIT_UNKNOWN = "commit-unknown"
    """The caller was told that nothing is held, so nothing was sent."""
    # an answer was dropped from the index
    BODY_GONE = "body-gone"
    BODY_DAMAGED = "body-damaged"


@dataclass(frozen=True, slots=True)
class Outside:
    """What is kept of the other side's reply beside its bill: its status, and its id of the request, to be found on its usage page."""

    status: int | None = None
    request_id: str | None = None

    def facts(self) -> dict[str, object]:
        """For an entry: what is known."""
        return {name: value for name, value in (("status", self.status), ("requestId", self.request_id)) if value is not None}


#: Nothing came back.
UNHEARD = Outside()


def outside(status: int | None, request_id: str | None) -> Outside:
    """With the id left out where it is none: it is a header of a foreign server."""
    return Outside(status, request_id if request_id is not None and _REQUEST_ID.fullmatch(request_id) else None)

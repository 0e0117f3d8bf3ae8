"""What became of a request to a teacher, and so of its hold: billed, surely not billed, or in doubt. Pure: teachers lie, no guesses."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from email.utils import parsedate_to_datetime
from typing import Any, Final

from distillery.api import reasons
from distillery.gateway.errors import IN_DOUBT, RATE_LIMIT_EXCEEDED, TEACHER_UNAVAILABLE, Refused, refusal
from distillery.gateway.foreign import Secret
from distillery.gateway.ledger import Why
from distillery.timestamps import moment

from .choices import Finish

#: A teacher that has no place says so with these before it does any work.
_BUSY: Final = (503, 529)
#: The credential, the account or the model is wrong: no request can succeed until someone mends it.
_BROKEN: Final = (401, 402, 403, 404)
#: The server, or a proxy before it, gave up on a request that may have been worked on.
_UNKNOWABLE: Final = (408, 499)
#: How long a broken teacher is left alone, in seconds; also the wait that its callers are told.
BROKEN_SECONDS: Final = 60.0
#: A provider may ask for so much silence, in seconds: it is asked of all who use this teacher.
_LONGEST_WAIT: Final = 300.0


@dataclass(frozen=True, slots=True)
class Billed:
    """A whole answer with its usage. `body` is what the client gets and the cache keeps; it is absent where nothing in it can be used."""

    usage: Mapping[str, Any]
    service_tier: str | None
    tokens_in: int
    tokens_out: int
    body: bytes | None
    finish: Finish
    lacking: str = ""
    """Why there is no body, or fewer choices in it than were asked for."""
    request_id: str | None = None
    """The provider's name for the request."""


@dataclass(frozen=True, slots=True)
class NotBilled:
    """The request was not sent, or turned down before any work."""

    why: str
    """For people; never for the ledger."""
    kind: Why
    error: Refused
    status: int | None = None
    request_id: str | None = None
    busy: bool = False
    """Too many requests: send fewer."""
    wait: float | None = None
    """Seconds of silence that the provider asks for."""
    broken: bool = False
    """Send none until someone mends it."""


@dataclass(frozen=True, slots=True)
class Doubtful:
    """Nobody but the provider knows whether it is billed."""

    why: str
    """For people; never for the ledger."""
    kind: Why
    status: int | None = None
    request_id: str | None = None

    def error(self) -> Refused:
        """For the caller: asking again is allowed and is another request with a hold of its own."""
        return refusal(IN_DOUBT, f"{self.why}; it stays booked at its worst case, because the provider may bill it")


Outcome = Billed | NotBilled | Doubtful


@dataclass(frozen=True, slots=True)
class Source:
    """Who answered, when and with which headers; `secret` is what nothing of it may repeat."""

    teacher: str
    secret: Secret
    headers: Mapping[str, str]
    now: datetime

    @property
    def name(self) -> str:
        """As a sentence has it."""
        return f'teacher "{self.teacher}"'


def of_status(status: int, body: bytes, source: Source) -> NotBilled | Doubtful:
    """The outcome of a status that is no 2xx."""
    said = f"{source.name} answered {status}"
    code, text = _error(body, source)
    if status == 429 and code != "insufficient_quota":
        wait = retry_after(source.headers, source.now)
        limited = refusal(RATE_LIMIT_EXCEEDED, f"{said}: too many requests", retry_after=wait or 1.0)
        return NotBilled(said, Why.BUSY, limited, status, busy=True, wait=wait)
    if status in _BUSY:
        wait = retry_after(source.headers, source.now)
        error = refusal(TEACHER_UNAVAILABLE, f"{said}: it is overloaded or down", retry_after=wait or 2.0)
        return NotBilled(said, Why.BUSY, error, status, busy=True, wait=wait)
    if status == 429 or status in _BROKEN or 300 <= status < 400:
        error = refusal(TEACHER_UNAVAILABLE, f"{said}: {_remedy(status)}", retry_after=BROKEN_SECONDS)
        return NotBilled(said, Why.TURNED_AWAY, error, status, broken=True)
    if 400 <= status < 500 and status not in _UNKNOWABLE:
        error = refusal(reasons.TEACHER_FAILED, f"{said}: {text or 'it refuses the request'}. Nothing is billed")
        return NotBilled(said, Why.REFUSED, error, status)
    return Doubtful(said, Why.FAILED, status)


def unreachable(source: Source, why: object) -> NotBilled:
    """No connection: name, network or TLS."""
    said = f"{source.name} cannot be reached: {source.secret.shown(why)}"
    return NotBilled(said, Why.UNREACHABLE, refusal(TEACHER_UNAVAILABLE, said, retry_after=2.0))


def not_sent(source: Source, why: object) -> NotBilled:
    """It failed before the first byte."""
    said = f"the request to {source.name} was not sent: {source.secret.shown(why)}"
    return NotBilled(said, Why.NOT_SENT, refusal(TEACHER_UNAVAILABLE, said, retry_after=2.0))


def fault(teacher: str, kind: str, sent: bool) -> NotBilled | Doubtful:
    """A fault of the gateway itself, in the middle of a request."""
    text = f"a fault of the gateway ({kind}), which its log tells"
    if sent:
        return Doubtful(f'the answer of teacher "{teacher}" was lost by {text}', Why.GATEWAY_FAULT)
    said = f'teacher "{teacher}" was not asked for {text}'
    return NotBilled(said, Why.NOT_SENT, refusal(reasons.GATEWAY_UNAVAILABLE, said, retry_after=60.0))


def lost(source: Source, why: object, kind: Why = Why.CONNECTION_LOST) -> Doubtful:
    """Sent, and no whole answer came back."""
    return Doubtful(f"{source.name} {source.secret.shown(why)}", kind)


def retry_after(headers: Mapping[str, str], now: datetime) -> float | None:
    """Seconds that the provider asks for: retry-after-ms, or Retry-After as a number or a date."""
    for name, unit in (("retry-after-ms", 0.001), ("retry-after", 1.0)):
        value = headers.get(name)
        if value is None:
            continue
        try:
            seconds = float(value) * unit
        except ValueError:
            seconds = _until(value, now)
        if math.isfinite(seconds) and seconds >= 0:
            return min(seconds, _LONGEST_WAIT)
    return None


def _until(date: str, now: datetime) -> float:
    try:
        # a date without a zone is UTC, as HTTP has it
        return max(0.0, (moment(parsedate_to_datetime(date).isoformat()) - now).total_seconds())
    except ValueError:
        return math.nan


def _error(body: bytes, source: Source) -> tuple[object, str]:
    """Code and message of an error object: the provider's words, as a tenant may see them."""
    try:
        found = json.loads(body)["error"]
        return found.get("code"), source.secret.shown(found.get("message") or "")
    except (ValueError, RecursionError, KeyError, TypeError, AttributeError):
        return None, source.secret.shown(body[:2000].decode(errors="replace"))


def _remedy(status: int) -> str:
    # never the provider's own text: it may quote the key
    if status in (401, 403):
        return "it does not accept the gateway's credential; ask your platform team to renew it"
    if status in (402, 429):
        return "the provider's account has no credit; ask your platform team"
    if status == 404:
        return "there is no such model or path; ask your platform team to correct baseURL or model in the TeacherBudget"
    return "redirects are not followed; ask your platform team to correct baseURL in the TeacherBudget"

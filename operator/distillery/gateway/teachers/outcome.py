"""What became of a request to a teacher, and so of its hold: billed, surely not billed, or in doubt. Pure: teachers lie, no guesses."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from email.utils import parsedate_to_datetime
from typing import Any, Final, Literal

from distillery.api import reasons
from distillery.gateway.errors import IN_DOUBT, RATE_LIMIT_EXCEEDED, TEACHER_UNAVAILABLE, Refused, refusal
from distillery.gateway.ledger import Why
from distillery.prices import BadUsage
from distillery.prices.tariff import tokens
from distillery.timestamps import moment

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
    """A whole answer with its usage. `body` is what the client gets and the cache keeps; it is absent where there are no choices in it."""

    usage: Mapping[str, Any]
    service_tier: str | None
    tokens_in: int
    tokens_out: int
    body: bytes | None
    finish: Literal["stop", "truncated", "refused"]
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


def of_answer(body: bytes, n: int) -> Billed | Doubtful:
    """The outcome of a 2xx whose body was read to its end."""
    try:
        answer = json.loads(body)
    except (ValueError, RecursionError):
        return Doubtful("the teacher's answer is no JSON", Why.UNREADABLE)
    return of_object(answer, body, n)


def of_object(answer: Any, body: bytes, n: int) -> Billed | Doubtful:
    """As `of_answer`, from the parsed body."""
    usage = answer.get("usage") if isinstance(answer, dict) else None
    if not isinstance(usage, dict):
        return Doubtful("the teacher's answer has no usage", Why.NO_USAGE)
    try:
        tokens_in, tokens_out = tokens(usage)
    except BadUsage as error:
        return Doubtful(f"the teacher's answer has an unreadable usage: {error}", Why.UNREADABLE_USAGE)
    choices, tier = answer.get("choices"), answer.get("service_tier")
    whole = isinstance(choices, list) and len(choices) == n and all(isinstance(choice, dict) for choice in choices)
    return Billed(
        usage=usage,
        service_tier=tier if isinstance(tier, str) else None,
        tokens_in=tokens_in,
        tokens_out=tokens_out,
        body=body if whole else None,
        finish=_finish(choices) if whole else "stop",
    )


def of_status(status: int, headers: Mapping[str, str], body: bytes, teacher: str, now: datetime) -> NotBilled | Doubtful:
    """The outcome of a status that is no 2xx."""
    said = f'teacher "{teacher}" answered {status}'
    code, text = _error(body)
    if status == 429 and code != "insufficient_quota":
        wait = retry_after(headers, now)
        limited = refusal(RATE_LIMIT_EXCEEDED, f"{said}: too many requests", retry_after=wait or 1.0)
        return NotBilled(said, Why.BUSY, limited, status, busy=True, wait=wait)
    if status in _BUSY:
        wait = retry_after(headers, now)
        error = refusal(TEACHER_UNAVAILABLE, f"{said}: it is overloaded or down", retry_after=wait or 2.0)
        return NotBilled(said, Why.BUSY, error, status, busy=True, wait=wait)
    if status == 429 or status in _BROKEN or 300 <= status < 400:
        error = refusal(TEACHER_UNAVAILABLE, f"{said}: {_remedy(status)}", retry_after=BROKEN_SECONDS)
        return NotBilled(said, Why.TURNED_AWAY, error, status, broken=True)
    if 400 <= status < 500 and status not in _UNKNOWABLE:
        error = refusal(reasons.TEACHER_FAILED, f"{said}: {text or 'it refuses the request'}. Nothing is billed")
        return NotBilled(said, Why.REFUSED, error, status)
    return Doubtful(said, Why.FAILED, status)


def unreachable(teacher: str, why: str) -> NotBilled:
    """No connection: name, network or TLS."""
    said = f'teacher "{teacher}" cannot be reached: {why}'
    return NotBilled(said, Why.UNREACHABLE, refusal(TEACHER_UNAVAILABLE, said, retry_after=2.0))


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


def _finish(choices: Sequence[Mapping[str, Any]]) -> Literal["stop", "truncated", "refused"]:
    """The worst of them: such answers are kept, and marked as no training data."""
    if any(_is_refusal(choice) for choice in choices):
        return "refused"
    return "truncated" if any(choice.get("finish_reason") == "length" for choice in choices) else "stop"


def _is_refusal(choice: Mapping[str, Any]) -> bool:
    message = choice.get("message")
    return choice.get("finish_reason") == "content_filter" or (isinstance(message, dict) and bool(message.get("refusal")))


def _error(body: bytes) -> tuple[object, str]:
    """Code and message of an error object, the message bounded: it is the provider's text, shown to a tenant."""
    try:
        found = json.loads(body)["error"]
        return found.get("code"), str(found.get("message") or "")[:300]
    except (ValueError, RecursionError, KeyError, TypeError, AttributeError):
        return None, body[:200].decode("utf-8", "replace").strip()


def _remedy(status: int) -> str:
    # never the provider's own text: it may quote the key
    if status in (401, 403):
        return "it does not accept the gateway's credential; ask your platform team to renew it"
    if status in (402, 429):
        return "the provider's account has no credit; ask your platform team"
    if status == 404:
        return "there is no such model or path; ask your platform team to correct baseURL or model in the TeacherBudget"
    return "redirects are not followed; ask your platform team to correct baseURL in the TeacherBudget"

"""A 2xx, read: what it bills and what of it is kept. Pure."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any, Final

from distillery.gateway.ledger import LARGEST, Why
from distillery.prices import BadUsage
from distillery.prices.tariff import tokens

from .choices import checked, encoded, spelled
from .outcome import Billed, Doubtful, NotBilled, Outcome, Source, of_status

#: What errors that are told with a 200 are called, where they have no number.
_STATUS_OF: Final[Mapping[str, int]] = {
    "rate_limit_exceeded": 429,
    "rate_limit_error": 429,
    "insufficient_quota": 429,
    "overloaded_error": 529,
    "server_overloaded": 503,
    "invalid_api_key": 401,
    "authentication_error": 401,
    "permission_error": 403,
    "model_not_found": 404,
    "not_found_error": 404,
    "invalid_request_error": 400,
    "context_length_exceeded": 400,
    "server_error": 500,
    "api_error": 500,
}


def of_answer(body: bytes, n: int, source: Source) -> Outcome:
    """The outcome of a 2xx whose body was read to its end."""
    try:
        answer = json.loads(body)
        if body.count(b'"usage"') > 1:
            answer = json.loads(body, object_pairs_hook=_with_the_largest_usage)
    except (ValueError, RecursionError):
        return Doubtful(f"the answer of {source.name} is no JSON", Why.UNREADABLE)
    return of_object(answer, n, source)


def of_object(answer: Any, n: int, source: Source, spoilt: str = "") -> Outcome:
    """As `of_answer`, from the parsed body; `spoilt` is why it cannot be used, where that is known already."""
    if not isinstance(answer, dict):
        return Doubtful(f"the answer of {source.name} is no JSON object", Why.UNREADABLE)
    usage, tier = answer.get("usage"), answer.get("service_tier")
    billed = (0, 0)
    if isinstance(usage, dict):
        try:
            billed = tokens(usage)
        except BadUsage as error:
            said = source.secret.shown(error)
            return Doubtful(f"the answer of {source.name} has an unreadable usage: {said}", Why.UNREADABLE_USAGE)
    if not any(billed) and (failure := _failure(answer)) is not None:
        return _of_error(failure, source)
    if not isinstance(usage, dict):
        return Doubtful(f"the answer of {source.name} has no usage", Why.NO_USAGE)
    found = checked(answer.get("choices"), n)
    kept = None if spoilt or not found.choices else encoded(answer, found.choices)
    texts = (kept or b"", *(spelled(choice["logprobs"]).encode() for choice in found.choices))
    if kept is not None and any(map(source.secret.repeated_in, texts)):
        kept, spoilt = None, "it repeats the key that it was sent"
    return Billed(
        usage=usage,
        service_tier=tier if isinstance(tier, str) else None,
        tokens_in=min(billed[0], LARGEST),
        tokens_out=min(billed[1], LARGEST),
        body=kept,
        finish=found.finish,
        lacking=source.secret.shown(lacking) if (lacking := spoilt or found.lacking) else "",
    )


def size(usage: object) -> int:
    """How much a usage counts, where several are given; -1 for one that counts nothing."""
    try:
        return sum(tokens(usage)) if isinstance(usage, dict) else -1
    except BadUsage:
        return -1


def _with_the_largest_usage(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    usages = [value for name, value in pairs if name == "usage"]
    return {**dict(pairs), "usage": max(usages, key=size)} if len(usages) > 1 else dict(pairs)


def _failure(answer: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """The error object of a 200 that answers nothing.

    Routers before several providers give one in place of the choices, or in each of them; in older vLLM it is the answer itself.
    """
    choices = answer.get("choices")
    if choices:
        errors = [_error_of(choice) for choice in choices] if isinstance(choices, list) else []
        error = errors[0] if all(errors) and errors else None
    else:
        error = answer.get("error")
    if error:
        return error if isinstance(error, dict) else {"message": error}
    return answer if not choices and answer.get("object") == "error" else None


def _error_of(choice: object) -> Any:
    """Of a choice without a word: what was said before it failed was worked for."""
    if not isinstance(choice, dict):
        return None
    message = choice.get("message")
    said = choice.get("text") or (message.get("content") if isinstance(message, dict) else message)
    return None if said else choice.get("error")


def _of_error(error: Mapping[str, Any], source: Source) -> NotBilled | Doubtful:
    """As if the status had been what the error says."""
    for said in (error.get(name) for name in ("code", "status", "status_code", "http_code", "type")):
        code = int(said) if isinstance(said, str) and re.fullmatch(r"[0-9]{3}", said) else said
        status = _STATUS_OF.get(code) if isinstance(code, str) else code
        if type(status) is int and 400 <= status < 600:
            return of_status(status, json.dumps({"error": error}).encode(), source)
    return Doubtful(f"{source.name} answered with an error in place of choices", Why.FAILED)

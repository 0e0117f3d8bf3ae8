"""One table of refusals: what each side reads from it."""

import re
from pathlib import Path

import pytest

from distillery.api import reasons
from distillery.api.refusals import BY_CODE, REFUSALS, reasons_of, snake
from distillery.gateway import errors

GATEWAY = Path(errors.__file__).parent


@pytest.mark.parametrize(
    ("reason", "code"), [("BaseURLForbidden", "base_url_forbidden"), ("InDoubt", "in_doubt"), ("JobEnded", "job_ended"), ("Gone", "gone")]
)
def test_codes_are_reasons_in_snake_case(reason: str, code: str) -> None:
    assert snake(reason) == code


def test_codes_tell_reasons_apart() -> None:
    assert len(BY_CODE) == len(REFUSALS)


def test_a_model_that_is_not_there_is_a_teacher_that_is_not_there() -> None:
    assert {refusal.told_as for refusal in REFUSALS.values() if refusal.told_as != refusal.reason} == {reasons.TEACHER_UNKNOWN}


def test_out_of_money_is_what_every_sdk_calls_insufficient_quota() -> None:
    told = {reason: errors.refusal(reason, "m").body()["error"]["type"] for reason in REFUSALS}
    assert {reason for reason, kind in told.items() if kind == "insufficient_quota"} == reasons_of("money")


def test_every_refusal_of_the_gateway_has_its_line() -> None:
    """`refusal(REASON, ...)` takes its status from the table; a reason that is not there would be a KeyError amid a question."""
    named = {name for file in GATEWAY.rglob("*.py") for name in re.findall(r"\brefusal\((?:reasons\.)?([A-Z_]+),", file.read_text())}
    assert named
    assert {getattr(reasons, name) for name in named} <= set(REFUSALS)

"""What providers say about waiting, and what of their words is shown."""

from datetime import UTC, datetime

import pytest

from distillery.gateway.foreign import secret
from distillery.gateway.teachers.outcome import NotBilled, Source, of_status, retry_after

NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)
SOURCE = Source("gpt-x", secret("sk-live-4fQ9xTz81LmNw0RbVh7Yc2Kd"), {}, NOW)


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, None),
        ({"retry-after": "7"}, 7.0),
        ({"retry-after": "0.5"}, 0.5),
        ({"retry-after-ms": "1500", "retry-after": "9"}, 1.5),
        ({"retry-after": "Tue, 24 Nov 2026 12:00:30 GMT"}, 30.0),
        ({"retry-after": "Tue, 24 Nov 2026 11:00:00 GMT"}, 0.0),
        ({"retry-after": "Tue, 24 Nov 2026 12:00:30 -0000"}, 30.0),
        ({"retry-after": "999999"}, 300.0),
        ({"retry-after": "soon"}, None),
        ({"retry-after": "-3"}, None),
        ({"retry-after": "nan"}, None),
        ({"retry-after": "inf"}, None),
    ],
)
def test_how_long_a_provider_asks_to_wait(headers: dict[str, str], seconds: float | None) -> None:
    assert retry_after(headers, NOW) == seconds


def test_what_a_provider_says_about_its_key_is_not_shown() -> None:
    found = of_status(401, b'{"error": {"message": "Incorrect API key provided: sk-abc"}}', SOURCE)
    assert isinstance(found, NotBilled)
    assert "sk-abc" not in found.error.message
    assert found.broken


@pytest.mark.parametrize("body", [b"", b"null", b"[]", b'{"error": "text"}', b'{"error": {"message": 7}}', b"\xff\xfe", b"<html>"])
def test_an_error_of_any_shape_is_an_error(body: bytes) -> None:
    found = of_status(400, body, SOURCE)
    assert isinstance(found, NotBilled)
    assert found.error.reason == "TeacherFailed"

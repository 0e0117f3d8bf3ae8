"""Times as the API writes them: UTC, whole seconds."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta


def stamp(moment: datetime) -> str:
    """The wire form of a moment, for example 2026-01-31T12:00:00Z."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def moment(text: str) -> datetime:
    """The moment that a wire form names; ValueError if it names none."""
    found = datetime.fromisoformat(text)
    return found if found.tzinfo else found.replace(tzinfo=UTC)


def seconds_since(text: str, now: datetime) -> float:
    """Seconds from a wire form to now."""
    return (now - moment(text)) / timedelta(seconds=1)

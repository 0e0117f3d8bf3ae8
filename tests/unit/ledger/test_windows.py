"""Windows of the calendar in UTC."""

from datetime import UTC, datetime, timedelta, timezone

import pytest

from distillery.gateway.ledger import Account, accounts_of, ends, hold_id
from distillery.gateway.ledger.windows import day_of, not_before


def test_accounts_of_a_request_are_all_windows_in_both_units() -> None:
    at = datetime(2026, 11, 30, 23, 30, tzinfo=timezone(timedelta(hours=-2)))  # 01:30 of the next day in UTC
    found = accounts_of("team-a/main", "uid", {"daily": 5}, {"total": 7}, at)
    assert [(a.window, a.id, a.unit, a.limit) for a in found] == [
        ("perJob", "uid", "USD", None), ("daily", "2026-12-01", "USD", 5),
        ("monthly", "2026-12", "USD", None), ("total", "total", "USD", None),
        ("perJob", "uid", "tokens", None), ("daily", "2026-12-01", "tokens", None),
        ("monthly", "2026-12", "tokens", None), ("total", "total", "tokens", 7),
    ]  # fmt: skip
    assert day_of(at) == "2026-12-01"


@pytest.mark.parametrize(
    ("window", "period", "end"),
    [
        ("daily", "2026-11-30", datetime(2026, 12, 1, tzinfo=UTC)),
        ("daily", "2028-02-28", datetime(2028, 2, 29, tzinfo=UTC)),
        ("monthly", "2026-12", datetime(2027, 1, 1, tzinfo=UTC)),
        ("monthly", "2027-02", datetime(2027, 3, 1, tzinfo=UTC)),
        ("total", "total", None),
        ("perJob", "uid", None),
    ],
)
def test_when_a_window_ends(window: str, period: str, end: datetime | None) -> None:
    assert ends(Account("b", window, period, "USD")) == end  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("window", "period", "floored"),
    [
        ("daily", "2026-11-29", "2026-12-01"),
        ("daily", "2026-12-02", "2026-12-02"),
        ("monthly", "2026-11", "2026-12"),
        ("monthly", "2027-01", "2027-01"),
        ("perJob", "0000", "0000"),
        ("total", "total", "total"),
    ],
)
def test_no_window_before_the_latest_day(window: str, period: str, floored: str) -> None:
    assert not_before(Account("b", window, period, "USD", 9), "2026-12-01") == Account("b", window, floored, "USD", 9)  # type: ignore[arg-type]


def test_hold_ids_are_uuids_of_version_7_that_sort_by_time() -> None:
    early, late = hold_id(datetime(2026, 11, 24, tzinfo=UTC)), hold_id(datetime(2026, 11, 25, tzinfo=UTC))
    assert early < late
    assert (len(early), early[12], early[16] in "89ab") == (32, "7", True)
    assert len({hold_id(datetime(2026, 11, 24, tzinfo=UTC)) for _ in range(1000)}) == 1000

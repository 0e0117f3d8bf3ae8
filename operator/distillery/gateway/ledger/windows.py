"""Fixed windows in UTC: which accounts a request touches, and when each starts anew."""

from __future__ import annotations

import random
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta

from .contract import Account, Unit, WindowName

WINDOWS: tuple[WindowName, ...] = ("perJob", "daily", "monthly", "total")
#: Ids have to be unique, not secret; seeded once, since the system's source costs a system call each time.
_random = random.Random(random.SystemRandom().getrandbits(256))


def accounts_of(
    budget: str, job_uid: str, usd: Mapping[WindowName, int], tokens: Mapping[WindowName, int], at: datetime
) -> tuple[Account, ...]:
    """All accounts of a budget for one job. `usd` and `tokens` are limits; windows without one are counted all the same."""
    day = day_of(at)
    ids: dict[WindowName, str] = {"perJob": job_uid, "daily": day, "monthly": day[:7], "total": "total"}
    limits: tuple[tuple[Unit, Mapping[WindowName, int]], ...] = (("USD", usd), ("tokens", tokens))
    return tuple(Account(budget, window, ids[window], unit, of.get(window)) for unit, of in limits for window in WINDOWS)


def day_of(at: datetime) -> str:
    """The UTC day, as the id of a daily window."""
    return at.astimezone(UTC).strftime("%Y-%m-%d")


def ends(account: Account) -> datetime | None:
    """When the window starts anew; None for perJob and total."""
    if account.window == "daily":
        return datetime.fromisoformat(account.id).replace(tzinfo=UTC) + timedelta(days=1)
    if account.window == "monthly":
        first = datetime.fromisoformat(f"{account.id}-01").replace(tzinfo=UTC)
        return (first + timedelta(days=31)).replace(day=1)
    return None


def not_before(account: Account, day: str) -> Account:
    """The account, in the window of `day` if its own is older: a clock that was set back opens no closed window again."""
    floor = {"daily": day, "monthly": day[:7]}.get(account.window, account.id)
    if account.window in ("perJob", "total") or account.id >= floor:
        return account
    return Account(account.budget, account.window, floor, account.unit, account.limit)


def hold_id(at: datetime) -> str:
    """A new UUIDv7 in hex: holds sort by time."""
    value = int(at.timestamp() * 1000) << 80 | _random.getrandbits(80)
    value = value & ~(0xF << 76) | 7 << 76
    value = value & ~(0x3 << 62) | 2 << 62
    return f"{value:032x}"

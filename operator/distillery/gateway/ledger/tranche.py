"""How much is set aside for a job at a time: enough to work without asking, little enough that others are not kept out."""

from __future__ import annotations


def tranche(smallest: int, remaining: int, estimate: int) -> int:
    """The size of a reservation: 1.2 times the remaining work, at most a quarter of the job's estimate, at least one request."""
    return max(smallest, min(-(-remaining * 6 // 5), -(-estimate // 4)))


def resized(have: int, smallest: int, wanted: int, room: int | None) -> int | None:
    """The new size of a reservation of `have`, so that `smallest` can be drawn; None if it cannot.

    `room` is what the tightest account has free beside the reservation: None without a limit, negative where a limit was lowered below
    what is used. A reservation that suffices stays; one that does not grows to `wanted` or, where that does not fit, to `smallest`.
    """
    for size in (have if have >= smallest else wanted, smallest):
        if room is None or size - have <= room:
            return size
    return None

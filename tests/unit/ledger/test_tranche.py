"""How much is set aside."""

import pytest

from distillery.gateway.ledger.tranche import resized, tranche


@pytest.mark.parametrize(
    ("smallest", "remaining", "estimate", "size"),
    [
        (100, 0, 0, 100),  # a pilot: nothing is known
        (100, 2000, 2000, 500),  # a quarter of the job
        (100, 300, 2000, 360),  # the rest of it, and a fifth more
        (100, 50, 2000, 100),  # never less than one request
        (0, 1, 1, 1),  # rounded up
        (10, 2**52, 2**52, 2**50),
    ],
)
def test_size_of_a_tranche(smallest: int, remaining: int, estimate: int, size: int) -> None:
    assert tranche(smallest, remaining, estimate) == size


@pytest.mark.parametrize(
    ("have", "smallest", "wanted", "room", "size"),
    [
        (500, 100, 900, 0, 500),  # it suffices and stays
        (50, 100, 900, None, 900),  # no limit
        (50, 100, 900, 850, 900),  # the tranche just fits
        (50, 100, 900, 849, 100),  # it does not: one request
        (50, 100, 900, 50, 100),
        (50, 100, 900, 49, None),
        (500, 100, 900, -300, 100),  # a limit was lowered: give back what this request does not need
        (500, 100, 900, -401, None),
        (0, 0, 0, 0, 0),
        (0, 0, 0, -1, None),  # a request for nothing is no exception
    ],
)
def test_resizing(have: int, smallest: int, wanted: int, room: int | None, size: int | None) -> None:
    assert resized(have, smallest, wanted, room) == size

"""A teacher that fails is left alone, and asked again once in a while."""

import pytest

from distillery.gateway.errors import Refused
from distillery.gateway.teachers.breaker import Breaker


class Clock:
    def __init__(self) -> None:
        self.time = 0.0

    def __call__(self) -> float:
        return self.time


def refuses(breaker: Breaker) -> float | None:
    try:
        breaker.enter()
    except Refused as error:
        return error.retry_after
    return None


def test_a_few_failures_are_borne_and_a_success_forgets_them() -> None:
    breaker = Breaker(Clock())
    for _ in range(3):
        for _ in range(4):
            breaker.failed("500")
        breaker.went_well()
    assert refuses(breaker) is None
    assert breaker.why is None


def test_it_opens_and_lets_one_through_whose_outcome_decides() -> None:
    clock = Clock()
    breaker = Breaker(clock)
    for _ in range(5):
        breaker.failed("500")
    assert refuses(breaker) == 1
    assert breaker.why == "500"
    clock.time = 1.1
    assert refuses(breaker) is None
    assert refuses(breaker) is not None
    breaker.failed("502")
    assert refuses(breaker) == 2
    clock.time = 4
    assert refuses(breaker) is None
    breaker.went_well()
    assert [refuses(breaker) for _ in range(3)] == [None] * 3


def test_a_probe_that_tells_nothing_lets_another_try() -> None:
    clock = Clock()
    breaker = Breaker(clock)
    breaker.broken("401")
    assert refuses(breaker) == 60
    clock.time = 61
    assert refuses(breaker) is None
    breaker.leave()
    assert refuses(breaker) is None


def test_the_wait_has_an_end() -> None:
    clock = Clock()
    breaker = Breaker(clock)
    for _ in range(100):
        breaker.failed("500")
    with pytest.raises(Refused) as told:
        breaker.check()
    assert told.value.retry_after == 60

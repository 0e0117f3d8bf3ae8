"""A teacher that fails is left alone, and asked again once in a while; a namespace whose requests fail keeps none but itself away."""

import pytest

from distillery.gateway.errors import Refused
from distillery.gateway.teachers.breaker import Breaker, Breakers, NamespaceBreaker, Probed


class Clock:
    def __init__(self) -> None:
        self.time = 0.0

    def __call__(self) -> float:
        return self.time


def refuses(breaker: Breaker | NamespaceBreaker) -> float | None:
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


class Teacher:
    """What a probe finds, and how often it was asked."""

    def __init__(self, *found: bool | None) -> None:
        self.clock, self.found, self.keys = Clock(), list(found), list[str | None]()
        self.breakers = Breakers(self.clock, self.probe)

    async def probe(self, key: str | None) -> Probed:
        self.keys.append(key)
        return Probed(self.found.pop(0), "the list of models answers 503")

    async def fails(self, namespace: str, times: int = 5) -> None:
        for _ in range(times):
            self.breakers.of(namespace, "key").failed("500")
        await self.breakers.probed()

    def refuses(self, namespace: str) -> float | None:
        return refuses(self.breakers.of(namespace, "key"))


async def test_what_fails_for_one_namespace_alone_keeps_no_other_away() -> None:
    teacher = Teacher(True)
    await teacher.fails("nlp")
    assert teacher.keys == ["key"]
    assert (teacher.refuses("nlp"), teacher.refuses("vision")) == (1, None)
    assert (teacher.breakers.why("nlp"), teacher.breakers.why("vision")) == ("500", None)
    teacher.clock.time = 1.1
    assert teacher.refuses("nlp") is None


async def test_a_probe_that_fails_keeps_all_away_until_one_works() -> None:
    teacher = Teacher(False, False, True)
    await teacher.fails("nlp")
    assert teacher.refuses("vision") == 1
    assert teacher.breakers.why("vision") == "the list of models answers 503"
    for wait, after in ((2, 1.1), (None, 4)):
        teacher.clock.time = after
        assert teacher.refuses("vision") == 1  # it is asked by the gateway now, not by a request
        await teacher.breakers.probed()
        assert teacher.refuses("vision") == wait


async def test_without_a_probe_it_takes_two_namespaces_to_keep_all_away() -> None:
    teacher = Teacher(None, None, None)
    await teacher.fails("nlp")
    assert teacher.refuses("vision") is None
    await teacher.fails("vision")
    assert teacher.refuses("code") == 1
    teacher.clock.time = 1.1
    # one of them has gone away: the other alone is not enough
    assert teacher.refuses("nlp") is None
    await teacher.fails("nlp", 1)
    assert (teacher.refuses("nlp"), teacher.refuses("code")) == (2, None)


async def test_an_answer_opens_it_for_all() -> None:
    teacher = Teacher(False)
    await teacher.fails("nlp")
    teacher.breakers.of("vision", "key").went_well()
    assert teacher.refuses("vision") is None
    assert teacher.refuses("nlp") == 1


async def test_a_refused_key_is_a_matter_of_all_only_if_the_gateway_is_refused_too() -> None:
    teacher = Teacher(True)
    teacher.breakers.of("nlp", "key").broken("403")
    await teacher.breakers.probed()
    assert (teacher.refuses("nlp"), teacher.refuses("vision")) == (60, None)


def test_a_key_is_shown_by_no_repr() -> None:
    assert "secret" not in repr(Teacher().breakers.of("nlp", "secret"))

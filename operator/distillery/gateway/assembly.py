"""The part of the gateway that asks teachers, put together: what it is made of, and what runs beside the requests."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Protocol

from aiohttp import web

from distillery.metrics import Metrics

from .answers import Answers
from .budgets import Budgets
from .buyer import Buyer
from .completions import Completions
from .elsewhere import until_next
from .flights import Flights
from .identity import Identities
from .ledger import Ledger, LedgerError
from .metrics import GatewayMetrics
from .pace import Paces
from .permits import Permits, Runs
from .reservations import Reservations
from .room import DEFAULT_SIZES, Room, Sizes
from .shortages import Shortages
from .standing import Law, Objects, Standings
from .teachers.teacher import Teachers

if TYPE_CHECKING:
    from .bodies import Bodies

log = logging.getLogger(__name__)


def utc_now() -> datetime:
    """The time of day, which decides the windows."""
    return datetime.now(UTC)


class ApiObjects(Objects, Runs, Protocol):
    """Every read of the API server beside those that prove an identity."""


@dataclass(frozen=True)
class Asking:
    """All of it; `routes` serve it, `run` keeps it in order, `drain` and then `close` end it."""

    law: Law
    ledger: Ledger
    answers: Answers
    teachers: Teachers
    flights: Flights
    rooms: tuple[Room, Room]
    """Of questions, and of answers."""
    now: Callable[[], datetime]
    routes: list[web.RouteDef]

    @classmethod
    def of(
        cls,
        identities: Identities,
        objects: ApiObjects,
        law: Law,
        ledger: Ledger,
        operator: tuple[str, str],
        clock: Callable[[], float],
        metrics: Metrics,
        now: Callable[[], datetime] = utc_now,
        timeout: float = 600.0,
        bodies: Bodies | None = None,
        sizes: Sizes = DEFAULT_SIZES,
    ) -> Asking:
        """Put together. `clock` is monotonic; `bodies` is the object store of answers, if there is one."""
        questions, room = Room(sizes.total // 2), Room(sizes.total // 2)
        standings, paces = Standings(objects, law, clock, now), Paces(ledger, clock)
        teachers, flights, counted = Teachers(timeout, clock, now, sizes.answer), Flights(), GatewayMetrics(metrics)
        if ledger.shared:
            # until the others are known
            teachers.share(0.0)
        shortages = Shortages(clock)
        answers = Answers(ledger, now, counted, bodies)
        buyer = Buyer(ledger, answers, teachers, standings, paces, shortages, room, now, counted)
        return cls(
            law=law,
            ledger=ledger,
            answers=answers,
            teachers=teachers,
            flights=flights,
            rooms=(questions, room),
            now=now,
            routes=[
                *Completions(identities, standings, buyer, flights, counted, Permits(objects, clock), questions, sizes).routes(),
                *Reservations(identities, standings, ledger, paces, shortages, operator, now).routes(),
                *Budgets(identities, standings, law, ledger, teachers, paces, shortages, operator, now).routes(),
            ],
        )

    async def run(self) -> None:
        """Until cancelled, or until another gateway has taken the ledger over: then it raises, and the process has to end."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._sweep())
            tasks.create_task(self.answers.run())

    async def _sweep(self) -> None:
        while True:
            share = await self.sweep()
            if self.ledger.fenced:
                raise RuntimeError("another gateway has opened this ledger; this one ends")
            await asyncio.sleep(until_next(self.ledger, share))

    async def sweep(self) -> float:
        """One sign of life; gives the share of teachers' limits that this gateway has from now on."""
        try:
            swept = await self.ledger.sweep(self.now())
        except LedgerError as error:
            log.warning("the ledger could not be swept: %s", error)
            # the others may think by now that there is none here
            share = 0.0 if self.ledger.shared else 1.0
        else:
            share = swept.share
            if swept.lapsed or swept.doubted:
                log.info("swept the ledger", extra={"lapsed": swept.lapsed, "doubted": swept.doubted})
        self.teachers.share(share)
        return share

    async def drain(self, patience: float) -> None:
        """Begin no more requests, and let those under way end for `patience` seconds."""
        late = await self.flights.drain(patience)
        if late:
            log.warning("requests to teachers are cut off; the next start finds them in doubt", extra={"requests": late})

    async def close(self) -> None:
        """Close all connections."""
        await self.teachers.close()
        await self.ledger.close()
        self.answers.close()

"""`distillery-gateway`: serves stage pods and the operator until it is told to stop."""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
import signal
import sys
import time
from contextlib import AsyncExitStack, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from aiohttp import web

from distillery import logs
from distillery.cluster.api_server import ApiServer
from distillery.cluster.session import Session, configuration
from distillery.health import add_endpoints, serving
from distillery.metrics import Metrics
from distillery.terms import Catalogue, parse_catalogue

from .assembly import Asking, utc_now
from .backups import Backups
from .credentials import read_credentials
from .door import Door
from .identity import Identities
from .ledger import Ledger
from .options import options
from .progress import ProgressEndpoint
from .reports import Reports
from .room import MIB, Sizes
from .server import application
from .standing import Law

if TYPE_CHECKING:
    from .bodies import Bodies
    from .ledger.backup import Outside

log = logging.getLogger("distillery")
#: Requests under way may end for so long after SIGTERM; the chart gives the pod more.
PATIENCE = 25.0


def law_of(given: argparse.Namespace) -> Law:
    """What the flags and the files that they name decide."""
    catalogue = _catalogue(given.terms)
    if given.terms_override is not None:
        catalogue = catalogue.overridden(_catalogue(given.terms_override))
    credentials = read_credentials(given.credentials, given.open_base_urls, time.monotonic)
    return Law(catalogue, credentials, frozenset(given.shared_cache_namespaces))


def _catalogue(path: Path) -> Catalogue:
    return parse_catalogue(path.read_text(), str(path))


def _bodies(uri: str | None) -> Bodies | None:
    if uri is None:
        return None
    # boto3 is half a second and 30 MiB, for those who need it
    from .bodies import Bodies

    return Bodies(uri, os.environ)


def _vault() -> Outside:
    from .vault import Vault

    return Vault(os.environ)


async def run(given: argparse.Namespace) -> None:
    """Serve until SIGTERM or SIGINT."""
    stop, metrics = asyncio.Event(), Metrics()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    operator: tuple[str, str] = tuple(given.operator_service_account.split("/"))
    async with AsyncExitStack() as stack:
        session = Session(await configuration(), metrics)
        stack.push_async_callback(session.close)
        server, door = ApiServer(session), Door(time.monotonic)
        identities = Identities(server, time.monotonic, door)
        routes = ProgressEndpoint(identities, Reports(time.monotonic), operator, metrics).routes()
        sizes = Sizes(given.request_mib * MIB, given.answer_mib * MIB, given.in_flight_mib * MIB)
        asking: Asking | None = None
        if given.ledger:
            ledger = await Ledger.open(given.ledger, utc_now())
            law, bodies = law_of(given), _bodies(given.answers)
            # what a library says in a traceback may quote what it sent
            logs.configure(given.log_level, law.credentials.hidden)
            asking = Asking.of(
                identities,
                server,
                law,
                ledger,
                operator,
                time.monotonic,
                metrics,
                timeout=given.teacher_timeout,
                bodies=bodies,
                sizes=sizes,
            )
            stack.push_async_callback(asking.close)
            routes += asking.routes
            if given.backup_service_account:
                routes += Backups(identities, tuple(given.backup_service_account.split("/")), given.ledger).routes()
        await stack.enter_async_context(serving(application(routes, door, sizes.request), None, given.port))
        health = web.Application()
        add_endpoints(health, metrics, lambda: None)
        await stack.enter_async_context(serving(health, None, given.health_port))
        log.info("serving", extra={"port": given.port, "ledger": bool(given.ledger)})
        await _until(stop, asking)
        if asking is not None:
            await asking.drain(PATIENCE)


async def _until(stop: asyncio.Event, asking: Asking | None) -> None:
    """Until it is told to stop; what fails beside the requests ends all, and raises."""
    stopped = asyncio.create_task(stop.wait())
    upkeep = None if asking is None else asyncio.create_task(asking.run())
    await asyncio.wait([stopped] if upkeep is None else [stopped, upkeep], return_when=asyncio.FIRST_COMPLETED)
    if upkeep is None:
        return
    if upkeep.done():
        upkeep.result()
    upkeep.cancel()
    with suppress(asyncio.CancelledError):
        await upkeep


def main() -> None:
    """Entry point."""
    if sys.argv[1:2] == ["ledger"]:
        from .ledger import commands

        sys.exit(commands.main(sys.argv[2:], _vault))
    given = options(sys.argv[1:])
    logs.configure(given.log_level)
    asyncio.run(run(given))


if __name__ == "__main__":
    main()

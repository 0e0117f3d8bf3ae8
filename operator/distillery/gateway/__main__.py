"""`distillery-gateway`: serves stage pods and the operator until it is told to stop."""

from __future__ import annotations

import argparse
import asyncio
import logging
import signal
import sys
import time
from contextlib import AsyncExitStack

from aiohttp import web

from distillery import logs
from distillery.cluster.api_server import ApiServer
from distillery.cluster.session import Session, configuration
from distillery.health import add_endpoints, serving
from distillery.metrics import Metrics

from .identity import Identities
from .reports import Reports
from .server import ProgressEndpoint

log = logging.getLogger("distillery")


def options(arguments: list[str]) -> argparse.Namespace:
    """The flags, as the chart sets them."""
    parser = argparse.ArgumentParser(prog="distillery-gateway", description="Takes the progress of stage pods.")
    add = parser.add_argument
    add("--operator-service-account", required=True, metavar="NAMESPACE/NAME", help="who may read progress")
    add("--port", type=int, default=8080, help="of the API, for pods and the operator")
    add("--health-port", type=int, default=8081, help="of /healthz, /readyz and /metrics")
    add("--log-level", default="info", choices=("debug", "info", "warning", "error"))
    found = parser.parse_args(arguments)
    if found.operator_service_account.count("/") != 1:
        parser.error(f"--operator-service-account {found.operator_service_account}: give NAMESPACE/NAME")
    return found


async def run(given: argparse.Namespace) -> None:
    """Serve until SIGTERM or SIGINT."""
    stop, metrics = asyncio.Event(), Metrics()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    namespace, name = given.operator_service_account.split("/")
    async with AsyncExitStack() as stack:
        session = Session(await configuration(), metrics)
        stack.push_async_callback(session.close)
        identities = Identities(ApiServer(session), time.monotonic)
        endpoint = ProgressEndpoint(identities, Reports(time.monotonic), (namespace, name), metrics)
        await stack.enter_async_context(serving(endpoint.app(), None, given.port))
        health = web.Application()
        add_endpoints(health, metrics, lambda: None)
        await stack.enter_async_context(serving(health, None, given.health_port))
        log.info("serving", extra={"port": given.port})
        await stop.wait()


def main() -> None:
    """Entry point."""
    given = options(sys.argv[1:])
    logs.configure(given.log_level)
    asyncio.run(run(given))


if __name__ == "__main__":
    main()

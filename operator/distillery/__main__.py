"""`distillery-operator`: waits for the Lease, then turns DistillationJobs into stage Jobs until it is told to stop.

Exit codes: 0 after SIGTERM or SIGINT; 1 where it must be started afresh (leadership lost, a watch died); 2 where that would not help
(flags, the CRD is missing).
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import signal
import sys
import time
from collections.abc import Callable
from contextlib import AsyncExitStack, suppress
from datetime import UTC, datetime

from aiohttp import web

from . import handlers, logs
from .api.base import API_VERSION
from .cluster import BudgetKey, Cluster, ClusterError, Conflict, Key, Unavailable
from .cluster.api_server import ApiServer
from .cluster.session import Session, configuration
from .gateway_client import Gateway, HttpGateway, NoGateway
from .health import add_endpoints, serving
from .lease import RENEW_DEADLINE, Lease, lead
from .metrics import Metrics
from .news import News
from .options import options, settings_of, terms_of
from .queue import Queue
from .reconcile import reconcile
from .reconcile_budget import reconcile_budget
from .resync import resync
from .settings import Settings
from .terms import BadCatalogue, Catalogue

log = logging.getLogger("distillery")


class Operator:
    """The work of the leader: watches feed the queue, the queue feeds the two reconciles."""

    def __init__(
        self,
        settings: Settings,
        terms: Catalogue,
        cluster: Cluster,
        news: News,
        gateway: Gateway,
        metrics: Metrics,
        ready: Callable[[], None],
    ) -> None:
        self._settings, self._terms = settings, terms
        self._cluster, self._news, self._gateway, self._metrics, self._ready = cluster, news, gateway, metrics, ready

    async def run(self) -> None:
        """Until cancelled; what ends by itself ends all, and raises."""
        queue: Queue[Key | BudgetKey] = Queue(self._metrics)
        self._metrics.leader.set(1)
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(queue.run(lambda key: self._reconcile(key, queue.add), self._settings.concurrency))
                tasks.create_task(resync(self._cluster, queue.add, self._metrics, self._settings.resync_seconds))
                # Last: when Kopf ends it waits five seconds for every task that is younger than itself.
                tasks.create_task(self._watch(queue.add))
        finally:
            self._metrics.leader.set(0)

    async def _watch(self, add: handlers.Adds) -> None:
        await handlers.watch(add, self._news, self._settings.namespaces, self._ready)
        raise RuntimeError("Kopf ended by itself")

    async def _reconcile(self, key: Key | BudgetKey, add: Callable[[Key], None]) -> float | None:
        about = {"budget" if isinstance(key, BudgetKey) else "job": str(key)}
        try:
            if isinstance(key, BudgetKey):
                return await reconcile_budget(key, self._cluster, self._gateway, _now, add)
            return await reconcile(key, self._cluster, self._gateway, _now, self._settings, self._terms)
        except Conflict as error:
            log.debug("read again: %s", error, extra=about)
            raise
        except ClusterError as error:
            log.warning("reconcile failed: %s: %s", type(error).__name__, error, extra=about)
            raise
        except Exception:
            log.exception("reconcile failed", extra=about)
            raise


def _now() -> datetime:
    return datetime.now(UTC)


def _boot_clock() -> float:
    """Seconds since boot. Unlike time.monotonic() it goes on while the machine is suspended, so a sleeping leader's Lease runs out."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


async def _crd_is_there(server: ApiServer, stop: asyncio.Event) -> bool:
    while not stop.is_set():
        try:
            return await server.serves_our_kinds()
        except Unavailable as error:
            log.warning("the API server does not answer: %s", error)
        with suppress(TimeoutError):
            await asyncio.wait_for(stop.wait(), timeout=2)
    return True


async def run(given: argparse.Namespace) -> int:
    """The whole life of one replica; gives the exit code."""
    stop, metrics, news, settings = asyncio.Event(), Metrics(), News(), settings_of(given)
    try:
        terms = terms_of(given)
    except (BadCatalogue, OSError) as error:
        log.error("the catalogue of terms cannot be read: %s", error)
        return 2

    def take_signals() -> None:
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, stop.set)

    take_signals()
    async with AsyncExitStack() as stack:
        session = Session(await configuration(), metrics)
        stack.push_async_callback(session.close)
        lease = Lease(ApiServer(session), given.lease_namespace, given.lease_name, given.identity, _boot_clock)
        server = ApiServer(session, settings.namespaces, lease.check, news.wrote)
        app = web.Application()
        add_endpoints(
            app, metrics, lambda: None if _boot_clock() - lease.contact < 3 * RENEW_DEADLINE else "no contact with the API server"
        )
        await stack.enter_async_context(serving(app, None, given.http_port))
        gateway: Gateway = NoGateway()
        if settings.gateway_url:
            gateway = await stack.enter_async_context(HttpGateway(settings.gateway_url, given.gateway_token_file, metrics))
        if not await _crd_is_there(server, stop):
            log.error(
                "the CRDs of DistillationJob and TeacherBudget (%s) are not installed: install the Helm chart, or `kubectl apply -f crds/`",
                API_VERSION,
            )
            return 2
        log.info("waiting for the Lease", extra={"identity": given.identity})
        return 0 if await lead(lease, Operator(settings, terms, server, news, gateway, metrics, take_signals).run, stop) else 1


def main() -> None:
    """Entry point."""
    given = options(sys.argv[1:])
    logs.configure(given.log_level)
    try:
        code = asyncio.run(run(given))
    except Exception:
        log.exception("ended by an error")
        code = 1
    sys.exit(code)


if __name__ == "__main__":
    main()

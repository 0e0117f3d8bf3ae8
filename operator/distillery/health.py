"""The endpoints that the kubelet and Prometheus read; both programs serve them, a standby operator too."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from aiohttp import web

from .metrics import Metrics


def add_endpoints(app: web.Application, metrics: Metrics, unready: Callable[[], str | None]) -> None:
    """/healthz (the loop runs), /readyz (503 with the reason that `unready` gives), /metrics."""

    async def healthz(_: web.Request) -> web.Response:
        return web.Response(text="ok\n")

    async def readyz(_: web.Request) -> web.Response:
        reason = unready()
        return web.Response(text=f"{reason or 'ok'}\n", status=503 if reason else 200)

    async def exposition(_: web.Request) -> web.Response:
        return web.Response(body=metrics.text(), headers={"Content-Type": "text/plain; version=0.0.4; charset=utf-8"})

    app.add_routes([web.get("/healthz", healthz), web.get("/readyz", readyz), web.get("/metrics", exposition)])


@asynccontextmanager
async def serving(app: web.Application, host: str | None, port: int) -> AsyncIterator[int]:
    """Serve while the block runs, on all addresses where `host` is None; gives the port, which the kernel chooses where it is 0."""
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=1)
    await runner.setup()
    site = web.TCPSite(runner, host, port)
    await site.start()
    try:
        yield runner.addresses[0][1]
    finally:
        await runner.cleanup()

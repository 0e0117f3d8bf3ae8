"""The endpoints that the kubelet and Prometheus read; both programs serve them, a standby operator too."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Final

from aiohttp import web

from .metrics import Metrics

#: Clients of Python's httpx close idle connections after 5 s, so they never meet the close; half a head must not stay for ever.
HEAD_SECONDS: Final = 10.0
#: The rest of a body that was refused is read for so long, that its sender comes to read why.
LINGER_SECONDS: Final = 2.0


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
async def serving(app: web.Application, host: str | None, port: int, head_seconds: float = HEAD_SECONDS) -> AsyncIterator[int]:
    """Serve while the block runs, on all addresses where `host` is None; gives the port, which the kernel chooses where it is 0.

    A connection is closed where no whole head of a request came for `head_seconds`, be it idle or half sent.
    """
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=1, keepalive_timeout=head_seconds, lingering_time=LINGER_SECONDS)
    await runner.setup()
    site = web.TCPSite(runner, host, port)
    await site.start()
    try:
        yield runner.addresses[0][1]
    finally:
        await runner.cleanup()

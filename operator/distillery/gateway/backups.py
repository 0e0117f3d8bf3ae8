"""The whole ledger as one stream, for the one ServiceAccount that backs it up.

A job that backs up thus needs neither the ledger's volume, which one node or one pod holds, nor the database's password. The dump is made
by a process of its own, whose work is not the event loop's, and begins only when its first bytes are there.
"""

from __future__ import annotations

import asyncio
import logging
import os
import sys
from asyncio.subprocess import PIPE, Process
from typing import Final

from aiohttp import web

from distillery.api import reasons

from .errors import refusal
from .http import only, token_of
from .identity import Identities

log = logging.getLogger(__name__)
_BLOCK: Final = 1 << 18
#: Whoever reads so slowly is left, in seconds: while a dump is read, the database keeps what was written since.
_LONGEST: Final = 3600.0


class Backups:
    """GET /v1/ledger/backup, one at a time. `database` is the ledger's URL."""

    def __init__(self, identities: Identities, account: tuple[str, ...], database: str) -> None:
        self._identities, self._account, self._database = identities, (account[0], account[1]), database
        self._under_way = False

    def routes(self) -> list[web.RouteDef]:
        """For the application."""
        return [web.get("/v1/ledger/backup", self._backup)]

    async def _backup(self, request: web.Request) -> web.StreamResponse:
        only(await self._identities.account(token_of(request)), self._account, "back up the ledger")
        if self._under_way:
            raise refusal(reasons.GATEWAY_UNAVAILABLE, "a backup of the ledger is under way; ask again when it has ended", retry_after=60.0)
        self._under_way = True
        try:
            return await self._streamed(request)
        finally:
            self._under_way = False

    async def _streamed(self, request: web.Request) -> web.StreamResponse:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "distillery.gateway", "ledger", "backup", "--to", "-",
            env={**os.environ, "DISTILLERY_LEDGER": self._database}, stdin=asyncio.subprocess.DEVNULL, stdout=PIPE, stderr=PIPE,
        )  # fmt: skip
        try:
            async with asyncio.timeout(_LONGEST):
                return await self._passed_on(request, process)
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()

    async def _passed_on(self, request: web.Request, process: Process) -> web.StreamResponse:
        assert process.stdout is not None
        assert process.stderr is not None
        first = await process.stdout.read(_BLOCK)
        if not first:
            told = (await process.stderr.read()).decode(errors="replace").strip()
            raise refusal(reasons.GATEWAY_UNAVAILABLE, f"the ledger cannot be read: {told}", retry_after=60.0)
        response = web.StreamResponse(headers={"Content-Type": "application/jsonl"})
        await response.prepare(request)
        block = first
        while block:
            await response.write(block)
            block = await process.stdout.read(_BLOCK)
        told = (await process.stderr.read()).decode(errors="replace").strip()
        if await process.wait():
            log.error("a backup of the ledger broke off: %s", told)
            # no end of the chunked body; nor does the dump have its last line
            if request.transport is not None:
                request.transport.abort()
            return response
        log.info("the ledger was backed up", extra={"told": told})
        await response.write_eof()
        return response

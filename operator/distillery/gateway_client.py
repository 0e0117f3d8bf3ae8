"""The operator's view of the gateway: how far the running stages are."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Protocol, Self

import aiohttp
from pydantic import RootModel, ValidationError

from .api.result import Progress
from .metrics import Metrics

log = logging.getLogger(__name__)
#: A reconcile waits no longer than this, in seconds.
PATIENCE = aiohttp.ClientTimeout(total=2)
#: After a failure the gateway is left alone for so many seconds: it must not slow every reconcile.
PAUSE = 10.0
Reports = RootModel[dict[str, Progress]]


class Gateway(Protocol):
    """Reads of the gateway. They never raise: progress is for people, and no decision may wait for it."""

    async def progress(self, namespace: str, job: str, uid: str) -> Mapping[str, Progress]:
        """Stage name to its latest report, for the DistillationJob of this uid; empty if there is none or the gateway does not answer."""


class NoGateway:
    """Where an installation has none."""

    async def progress(self, namespace: str, job: str, uid: str) -> Mapping[str, Progress]:
        """Nothing."""
        return {}


class HttpGateway:
    """The gateway at a URL; a context manager that holds the connections. `token_file` is a projected ServiceAccount token."""

    def __init__(self, url: str, token_file: Path, metrics: Metrics) -> None:
        self._url = url.rstrip("/") + "/v1/progress"
        self._token_file = token_file
        self._metrics = metrics
        self._silent_until = 0.0
        self._http: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        self._http = aiohttp.ClientSession(timeout=PATIENCE)
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        if self._http is not None:
            await self._http.close()

    async def progress(self, namespace: str, job: str, uid: str) -> Mapping[str, Progress]:
        """The reports, or nothing where the gateway is silent."""
        clock = asyncio.get_running_loop().time
        if clock() < self._silent_until:
            return {}
        try:
            found = await self._read({"namespace": namespace, "job": job, "uid": uid})
        except (aiohttp.ClientError, TimeoutError, OSError, ValidationError) as error:
            self._silent_until = clock() + PAUSE
            self._metrics.gateway_reads.labels("error").inc()
            log.warning("no progress from the gateway: %s", str(error) or "no answer in time", extra={"url": self._url})
            return {}
        self._metrics.gateway_reads.labels("ok").inc()
        return found

    async def _read(self, query: Mapping[str, str]) -> Mapping[str, Progress]:
        if self._http is None:
            raise RuntimeError("HttpGateway is used outside of its `async with` block")
        # Kubernetes rotates the file; it is a few hundred bytes in memory (tmpfs).
        token = self._token_file.read_text().strip()
        async with self._http.get(self._url, params=query, headers={"Authorization": f"Bearer {token}"}) as response:
            response.raise_for_status()
            return Reports.model_validate_json(await response.read()).root

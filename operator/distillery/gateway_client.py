"""The operator's view of the gateway: how far the running stages are, what jobs may spend, what budgets have left."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, Self, TypeVar
from urllib.parse import quote

import aiohttp
from pydantic import BaseModel, RootModel, ValidationError

from .api.reasons import GATEWAY_UNAVAILABLE
from .api.result import Progress
from .api.usage import BudgetSnapshot, Reservation, ReservationRequest
from .metrics import Metrics
from .observe import Silence

log = logging.getLogger(__name__)
#: A reconcile waits no longer than this, in seconds.
PATIENCE = aiohttp.ClientTimeout(total=2)
#: An idle connection is given up before the gateway does it.
KEPT_SECONDS = 5.0
#: After a failure the gateway is left alone for so many seconds: it must not slow every reconcile.
PAUSE = 10.0
Reports = RootModel[dict[str, Progress]]
M = TypeVar("M", bound=BaseModel)
#: Statuses that say nothing about the next request.
_OF_ONE_OBJECT = (400, 404, 409)
_NONE = Silence("this installation has none")


class Gateway(Protocol):
    """What the operator asks. Nothing raises: a gateway that is gone slows no reconcile. For money its silence is told apart from a no."""

    async def progress(self, namespace: str, job: str, uid: str) -> Mapping[str, Progress]:
        """Stage name to its latest report, for the DistillationJob of this uid; empty if there is none or the gateway does not answer."""

    async def reserve(self, namespace: str, job: str, uid: str, need: ReservationRequest) -> Reservation | Silence:
        """Whether the job may ask its teacher; sets money aside for it, or keeps what is set aside. Safe to repeat."""

    async def give_back(self, namespace: str, job: str, uid: str) -> Reservation | Silence:
        """Give back what the job has not spent; its usage is final then. Safe to repeat."""

    async def budget(self, namespace: str, name: str) -> BudgetSnapshot | Silence:
        """What the ledger knows of a TeacherBudget."""


class NoGateway:
    """Where an installation has none."""

    async def progress(self, namespace: str, job: str, uid: str) -> Mapping[str, Progress]:
        """Nothing."""
        return {}

    async def reserve(self, namespace: str, job: str, uid: str, need: ReservationRequest) -> Reservation | Silence:
        """Never."""
        return _NONE

    async def give_back(self, namespace: str, job: str, uid: str) -> Reservation | Silence:
        """There is nothing."""
        return Reservation(state="Refused", reason=GATEWAY_UNAVAILABLE)

    async def budget(self, namespace: str, name: str) -> BudgetSnapshot | Silence:
        """Nothing."""
        return _NONE


class HttpGateway:
    """The gateway at a URL; a context manager that holds the connections. `token_file` is a projected ServiceAccount token."""

    def __init__(self, url: str, token_file: Path, metrics: Metrics) -> None:
        self._url = url.rstrip("/")
        self._token_file = token_file
        self._metrics = metrics
        self._silent_until = 0.0
        self._http: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        self._http = aiohttp.ClientSession(connector=aiohttp.TCPConnector(keepalive_timeout=KEPT_SECONDS), timeout=PATIENCE)
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        if self._http is not None:
            await self._http.close()

    async def progress(self, namespace: str, job: str, uid: str) -> Mapping[str, Progress]:
        """The reports, or nothing where the gateway is silent."""
        found = await self._ask(Reports, "GET", "/v1/progress", params={"namespace": namespace, "job": job, "uid": uid})
        return {} if isinstance(found, Silence) else found.root

    async def reserve(self, namespace: str, job: str, uid: str, need: ReservationRequest) -> Reservation | Silence:
        """PUT: the same each time."""
        return await self._ask(Reservation, "PUT", _path("reservations", namespace, job, uid), json=need.wire())

    async def give_back(self, namespace: str, job: str, uid: str) -> Reservation | Silence:
        """DELETE: also of a job that the gateway has never heard of."""
        return await self._ask(Reservation, "DELETE", _path("reservations", namespace, job, uid))

    async def budget(self, namespace: str, name: str) -> BudgetSnapshot | Silence:
        """GET."""
        return await self._ask(BudgetSnapshot, "GET", _path("budgets", namespace, name))

    async def _ask(self, model: type[M], verb: str, path: str, **more: Any) -> M | Silence:
        clock = asyncio.get_running_loop().time
        if clock() < self._silent_until:
            return Silence("it did not answer a moment ago")
        try:
            found = model.model_validate_json(await self._request(verb, path, **more))
        except (aiohttp.ClientError, TimeoutError, OSError, ValidationError) as error:
            if not (isinstance(error, aiohttp.ClientResponseError) and error.status in _OF_ONE_OBJECT):
                self._silent_until = clock() + PAUSE
            self._metrics.gateway_reads.labels("error").inc()
            words = _words(error)
            log.warning("the gateway gives no answer: %s", words, extra={"url": self._url + path})
            return Silence(words)
        self._metrics.gateway_reads.labels("ok").inc()
        return found

    async def _request(self, verb: str, path: str, **more: Any) -> bytes:
        if self._http is None:
            raise RuntimeError("HttpGateway is used outside of its `async with` block")
        # Kubernetes rotates the file; it is a few hundred bytes in memory (tmpfs).
        token = self._token_file.read_text().strip()
        async with self._http.request(verb, self._url + path, headers={"Authorization": f"Bearer {token}"}, **more) as response:
            body = await response.read()
            if response.status >= 400:
                raise aiohttp.ClientResponseError(
                    response.request_info, response.history, status=response.status, message=_said(body) or str(response.reason)
                )
            return body


def _path(*parts: str) -> str:
    return "/".join(["/v1", *(quote(part, safe="") for part in parts)])


def _words(error: Exception) -> str:
    """Without addresses and times, which differ at each attempt: the words become part of a condition."""
    if isinstance(error, aiohttp.ClientResponseError):
        return f"{error.status} {error.message}"
    if isinstance(error, ValidationError):
        return "its answer cannot be read: operator and gateway do not fit each other"
    return str(error) or "no answer in time"


def _said(body: bytes) -> str:
    """The message of an error object."""
    try:
        return str(json.loads(body)["error"]["message"])
    except (ValueError, KeyError, TypeError):
        return body[:200].decode(errors="replace")

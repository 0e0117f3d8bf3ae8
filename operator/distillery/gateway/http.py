"""What every endpoint has in common: who calls, and how an error is told."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Final

from aiohttp import web
from aiohttp.typedefs import Middleware

from distillery.api import reasons
from distillery.cluster import ClusterError

from .door import Bearer, Door
from .errors import INVALID_REQUEST, Refused, invalid, no_ledger, refusal, shown
from .identity import Account
from .ledger import LedgerError

log = logging.getLogger(__name__)
#: For the body of a request, in seconds.
BODY_SECONDS: Final = 10.0
_PARTING: Final = (401, 408, 413)
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def token_of(request: web.Request) -> Bearer:
    """The bearer token of a request. Refused where there is none."""
    scheme, _, token = request.headers.get("Authorization", "").partition(" ")
    if scheme.lower() != "bearer" or not token:
        raise Refused(401, reasons.NO_TOKEN, "send the pod's projected ServiceAccount token as `Authorization: Bearer …`")
    if not token.isascii():
        raise Refused(401, reasons.TOKEN_INVALID, "the token holds what no ServiceAccount token does: send it as the kubelet wrote it")
    return Bearer(token.strip(), request.remote or "")


async def read(request: web.Request) -> bytes:
    """The body. Refused where it is compressed, broken, or does not come in a while: half a request takes room that others want."""
    if any(encoding.lower() != "identity" for encoding in request.headers.getall("Content-Encoding", ())):
        # it could grow without bound when it is unpacked, and need not be what it says; of several headers aiohttp obeys the last
        raise Refused(415, INVALID_REQUEST, "Content-Encoding: send the body as it is; a compressed one is not read")
    try:
        async with asyncio.timeout(BODY_SECONDS):
            return await request.read()
    except TimeoutError:
        text = f"the body did not come within {BODY_SECONDS:g} s; send it again"
        raise Refused(408, INVALID_REQUEST, text, retry_after=1.0) from None
    except web.RequestPayloadError as error:
        raise invalid(None, f"the body cannot be read: {shown(str(error))}") from None


def only(account: Account, allowed: tuple[str, str], what: str) -> None:
    """Refused where a ServiceAccount is not the one that may do this."""
    if (account.namespace, account.name) != allowed:
        raise Refused(403, reasons.NOT_THE_OPERATOR, f"ServiceAccount {account.namespace}/{account.name} may not {what}")


def refused(request: web.Request, error: Refused) -> web.Response:
    """The response that tells an error, which is also logged; what waits for money or its turn asks often, and is counted only."""
    level = logging.DEBUG if error.status == 429 else logging.WARNING
    log.log(level, "refused: %s", error.message, extra={"reason": error.reason, "code": error.status, "remote": request.remote})
    response = web.Response(text=error.text(), status=error.status, content_type="application/json", headers=error.headers())
    if error.status in _PARTING:
        # another request costs a new connection, and what was half sent is not waited for
        response.force_close()
    return response


def errors(door: Door) -> Middleware:
    """Every failure as the error object of the API. Who is not known, and asks on, is let in less often, by `door`."""

    @web.middleware
    async def told(request: web.Request, handler: Handler) -> web.StreamResponse:
        try:
            return await handler(request)
        except Refused as error:
            return refused(request, _counted(door, request, error))
        except ClusterError as error:
            log.warning("the API server does not answer: %s", error)
            text = "the API server does not answer, so nothing can be proved; try again later"
            return refused(request, refusal(reasons.GATEWAY_UNAVAILABLE, text, retry_after=5.0))
        except LedgerError as error:
            return refused(request, no_ledger(error))
        except web.HTTPException as error:
            reason = INVALID_REQUEST if error.status == 400 else (error.reason or "").replace(" ", "")
            return refused(request, Refused(error.status, reason, error.text or error.reason or ""))
        except ConnectionError:
            # the client is gone, and aiohttp knows what to do
            raise
        except Exception:
            log.exception("a fault of the gateway")
            text = "a fault of the gateway, which its log tells; what was sent to the teacher is booked"
            return refused(request, Refused(500, reasons.INTERNAL_ERROR, text))

    return told


def _counted(door: Door, request: web.Request, error: Refused) -> Refused:
    """The error, or that there were too many of it."""
    if error.status != 401:
        return error
    try:
        door.spend(request.remote or "")
    except Refused as often:
        return often
    return error

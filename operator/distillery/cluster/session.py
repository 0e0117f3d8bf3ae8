"""A session with the API server: who we are, timeouts, and HTTP statuses turned into the errors of this package."""

from __future__ import annotations

import json
import os
from collections.abc import AsyncIterator, Mapping
from time import perf_counter
from typing import Any
from urllib.parse import quote

import aiohttp
from kubernetes.aio import config
from kubernetes.aio.client import ApiClient, Configuration
from kubernetes.aio.client.exceptions import ApiException
from kubernetes.aio.dynamic import DynamicClient

from distillery.metrics import Metrics

from . import AlreadyExists, Body, ClusterError, Conflict, Forbidden, Invalid, NotFound, Unavailable

#: A read of many objects may take long; a single request that takes longer than this is tried again later.
TIMEOUT = aiohttp.ClientTimeout(total=30, connect=10)
#: Objects of one answer to a list.
PAGE = 500
_MERGE_PATCH = "application/merge-patch+json"
_BY_STATUS: Mapping[int, type[ClusterError]] = {
    400: Invalid,
    403: Forbidden,
    404: NotFound,
    409: Conflict,
    410: Conflict,
    413: Invalid,
    422: Invalid,
}


async def configuration() -> Configuration:
    """The pod's own ServiceAccount (its rotated token is read again every minute), or else KUBECONFIG or ~/.kube/config."""
    # With it aiohttp looks for a netrc file and for proxies in a thread of its own, at each request: half of what a request costs. Kopf's
    # watches look for neither; a kubeconfig's proxy-url holds.
    found = Configuration(client_session_kwargs={"trust_env": False})
    if os.environ.get(config.incluster_config.SERVICE_HOST_ENV_NAME):
        config.load_incluster_config(client_configuration=found)
    else:
        await config.load_kube_config(client_configuration=found)
    return found


class Session:
    """Requests by path, JSON in and out. The dynamic client's discovery is not used: the few resources we need are known."""

    def __init__(self, configuration: Configuration, metrics: Metrics) -> None:
        self._client = ApiClient(configuration)
        self._dynamic = DynamicClient(self._client)
        self._metrics = metrics

    async def close(self) -> None:
        """Close the connections."""
        await self._client.close()

    async def get(self, path: str, **query: str | int) -> Body:
        """The object or list at a path."""
        return await self._request("get", path, None, query)

    async def create(self, path: str, body: Body) -> Body:
        """Create; a 409 is AlreadyExists."""
        try:
            return await self._request("post", path, body)
        except Conflict as error:
            raise AlreadyExists(error.message) from error

    async def replace(self, path: str, body: Body) -> Body:
        """Replace the whole object."""
        return await self._request("put", path, body)

    async def merge_patch(self, path: str, body: Body) -> Body:
        """Change the fields that the body names (RFC 7386)."""
        return await self._request("patch", path, body, content_type=_MERGE_PATCH)

    async def delete(self, path: str, uid: str, propagation: str) -> None:
        """Delete the object if it has this uid."""
        await self._request("delete", path, {"preconditions": {"uid": uid}, "propagationPolicy": propagation})

    async def _request(
        self, verb: str, path: str, body: Body | None, query: Mapping[str, str | int] | None = None, content_type: str | None = None
    ) -> Body:
        started, code = perf_counter(), "none"
        try:
            response = await self._dynamic.request(
                verb,
                path,
                body=body,
                query_params=list((query or {}).items()),
                content_type=content_type,
                serialize=False,
                _request_timeout=TIMEOUT,
            )
            code = str(response.status)
            found: Body = await response.json()
            return found
        except ApiException as error:
            code = str(error.status)
            raise _error(error) from error
        except (aiohttp.ClientError, TimeoutError, OSError, json.JSONDecodeError) as error:
            raise Unavailable(f"{verb} {path}: {str(error) or 'no answer in time'}") from error
        finally:
            self._metrics.api_requests.labels(verb, code).inc()
            self._metrics.api_seconds.labels(verb).observe(perf_counter() - started)


async def every(session: Session, path: str, **query: str) -> AsyncIterator[Body]:
    """All objects of a list, page by page."""
    more: dict[str, str] = {}
    while True:
        page = await session.get(path, limit=PAGE, **query, **more)
        for body in page["items"]:
            yield body
        if not (page.get("metadata") or {}).get("continue"):
            break
        more = {"continue": page["metadata"]["continue"]}


def path(prefix: str, namespace: str | None, plural: str, *rest: str) -> str:
    """/<prefix>/namespaces/<namespace>/<plural>/<name>…, each part quoted."""
    parts = ["namespaces", namespace] if namespace else []
    return "/".join(["", prefix, *(quote(p, safe="") for p in [*parts, plural, *rest])])


def _error(error: ApiException) -> ClusterError:
    kind: type[ClusterError] = _BY_STATUS.get(error.status or 0, Unavailable)
    return kind(_message(error.body) or f"{error.status} {error.reason}")


def _message(body: Any) -> str:
    """The sentence of a metav1.Status, or the text itself where a proxy answered."""
    text = body.decode(errors="replace") if isinstance(body, bytes) else str(body or "")
    try:
        return str(json.loads(text)["message"])
    except (ValueError, KeyError, TypeError):
        return text[:500]

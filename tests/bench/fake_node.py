"""A node without a machine: every stage pod bound to it has ended at once, with the result that a trainer would give.

What is measured with it is the control plane alone: API server, Job controller, scheduler and operator are real.
"""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime
from typing import Any

import aiohttp
from kubernetes.aio.client import ApiClient, Configuration

Body = dict[str, Any]
NAME = "fake-0"
LABEL = "distillery.dev/fake"
MERGE = {"Content-Type": "application/merge-patch+json"}


class Api:
    """Requests and watches by path, as whoever the kubeconfig names."""

    def __init__(self, session: aiohttp.ClientSession) -> None:
        self._session = session

    async def call(self, method: str, path: str, body: Body | None = None, missing_ok: bool = False) -> Body:
        """One request; ClientResponseError where the server refuses, unless it says 404 or 409 and that is fine."""
        headers = MERGE if method == "PATCH" else None
        async with self._session.request(method, path, json=body, headers=headers) as response:
            if not (missing_ok and response.status in (404, 409)):
                assert response.ok, f"{method} {path}: {response.status} {await response.text()}"
            found: Body = await response.json()
            return found

    async def text(self, path: str) -> str:
        """The body of a GET, empty where the server refuses."""
        async with self._session.get(path) as response:
            return await response.text() if response.ok else ""

    async def watch(self, path: str, **query: str) -> AsyncIterator[tuple[str, Body]]:
        """(ADDED, MODIFIED or DELETED, object), from what is there on, for ever."""
        version = ""
        while True:
            parameters = {**query, "watch": "true", "timeoutSeconds": "300", **({"resourceVersion": version} if version else {})}
            async with self._session.get(path, params=parameters, timeout=aiohttp.ClientTimeout(total=None)) as response:
                async for line in response.content:
                    event = json.loads(line)
                    assert event["type"] != "ERROR", event
                    version = event["object"]["metadata"]["resourceVersion"]
                    yield event["type"], event["object"]


@asynccontextmanager
async def connect(configuration: Configuration) -> AsyncIterator[Api]:
    """An Api for a loaded kubeconfig."""
    client = ApiClient(configuration)
    headers = {"Authorization": configuration.api_key["BearerToken"]} if "BearerToken" in configuration.api_key else {}
    connector = aiohttp.TCPConnector(ssl=client.rest_client.ssl_context, limit=64)
    async with aiohttp.ClientSession(configuration.host, connector=connector, headers=headers, read_bufsize=2**22) as session:
        yield Api(session)
    await client.close()


def now() -> str:
    """The time as the API writes it."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


@asynccontextmanager
async def fake_node(api: Api, message: Callable[[Body], str]) -> AsyncIterator[None]:
    """The node while the block runs. `message` gives the termination message of a pod."""
    await _register(api)
    async with asyncio.TaskGroup() as tasks:
        running = [tasks.create_task(_heartbeat(api)), tasks.create_task(_kubelet(api, message, tasks))]
        try:
            yield
        finally:
            for task in running:
                task.cancel()
    await api.call("DELETE", f"/api/v1/nodes/{NAME}", missing_ok=True)


async def _register(api: Api) -> None:
    taint = {"key": LABEL, "value": "true", "effect": "NoSchedule"}
    node = {"apiVersion": "v1", "kind": "Node", "metadata": {"name": NAME, "labels": {LABEL: "true"}}, "spec": {"taints": [taint]}}
    await api.call("POST", "/api/v1/nodes", node, missing_ok=True)
    room = {"cpu": "10000", "memory": "10Ti", "ephemeral-storage": "10Ti", "pods": "10000"}
    ready = {"type": "Ready", "status": "True", "reason": "Fake", "lastHeartbeatTime": now(), "lastTransitionTime": now()}
    await api.call("PATCH", f"/api/v1/nodes/{NAME}/status", {"status": {"capacity": room, "allocatable": room, "conditions": [ready]}})


async def _heartbeat(api: Api) -> None:
    path = "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases"
    spec = {"holderIdentity": NAME, "leaseDurationSeconds": 40}
    await api.call("POST", path, {"metadata": {"name": NAME, "namespace": "kube-node-lease"}, "spec": spec}, missing_ok=True)
    while True:
        await api.call("PATCH", f"{path}/{NAME}", {"spec": {"renewTime": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")}})
        await asyncio.sleep(10)


async def _kubelet(api: Api, message: Callable[[Body], str], tasks: asyncio.TaskGroup) -> None:
    seen: set[str] = set()
    async for kind, pod in api.watch("/api/v1/pods", fieldSelector=f"spec.nodeName={NAME}", labelSelector="distillery.dev/job"):
        uid = pod["metadata"]["uid"]
        deleting = "deletionTimestamp" in pod["metadata"]
        if kind != "DELETED" and (deleting or uid not in seen):
            seen.add(uid)
            tasks.create_task(_remove(api, pod) if deleting else _finish(api, pod, message(pod)))


async def _finish(api: Api, pod: Body, message: str) -> None:
    terminated = {"exitCode": 0, "reason": "Completed", "startedAt": now(), "finishedAt": now(), "message": message}
    name = pod["spec"]["containers"][0]["name"]
    state = {"name": name, "image": "none", "imageID": "", "ready": False, "restartCount": 0, "state": {"terminated": terminated}}
    path = f"/api/v1/namespaces/{pod['metadata']['namespace']}/pods/{pod['metadata']['name']}/status"
    status = {"phase": "Succeeded", "startTime": now(), "containerStatuses": [state]}
    await api.call("PATCH", path, {"status": status}, missing_ok=True)


async def _remove(api: Api, pod: Body) -> None:
    path = f"/api/v1/namespaces/{pod['metadata']['namespace']}/pods/{pod['metadata']['name']}?gracePeriodSeconds=0"
    with suppress(aiohttp.ClientError):
        await api.call("DELETE", path, missing_ok=True)

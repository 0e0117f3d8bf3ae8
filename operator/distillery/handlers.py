"""Kopf: what the API server says about our objects becomes keys in the queue. Nothing else happens here.

Handlers of raw events are never retried, and what they are told may be old or incomplete; so they carry no data onwards, only names, and
only those of objects in which `news` finds something that a pass may act on.
Pods are not watched: whatever a pod does that matters here changes the status of its Job (ready, failed), and a Job without a running pod
is looked at half a minute after it came to stand still, and until somebody has said why. It halves what the operator must hear and hold.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Iterator
from typing import Any, Protocol, cast

import kopf

from .api.base import GROUP, VERSION
from .cluster import BudgetKey, Key
from .news import News
from .settings import JOB_LABEL, MANAGED_BY


class Backoffs:
    """Endless delays between attempts to reach the API server: doubled from one second to thirty, with jitter. (Kopf's own end after a
    minute, and the operator with them.)"""

    def __init__(self, jitter: Callable[[], float] = random.random) -> None:
        self._jitter = jitter

    def __iter__(self) -> Iterator[float]:
        delay = 1.0
        while True:
            yield delay * (0.5 + 0.5 * self._jitter())
            delay = min(30.0, delay * 2)


class Adds(Protocol):
    """Of the queue: takes a key, to be handled `first` where a job waits for it."""

    def __call__(self, key: Key | BudgetKey, first: bool = False) -> None:
        """See Queue.add."""


def registry(add: Adds, news: News) -> kopf.OperatorRegistry:
    """The handlers: our objects by their own name, their Jobs by the label that names them."""
    found = kopf.OperatorRegistry()

    @kopf.on.login(registry=found)
    def login(**about: Any) -> kopf.ConnectionInfo | None:
        return kopf.login_with_service_account(**about) or kopf.login_with_kubeconfig(**about)

    @kopf.on.event(GROUP, VERSION, "distillationjobs", registry=found)
    async def distillation_job(**seen: Any) -> None:
        if seen["type"] == "DELETED" or news.of_job(seen["event"]["object"]):
            add(Key(seen["namespace"], seen["name"]))

    @kopf.on.event(GROUP, VERSION, "teacherbudgets", registry=found)
    async def teacher_budget(**seen: Any) -> None:
        add(BudgetKey(seen["namespace"], seen["name"]))

    @kopf.on.event("batch", "v1", "jobs", registry=found)
    async def child(**seen: Any) -> None:
        if news.of_child(seen["event"]["object"], gone=seen["type"] == "DELETED") and (name := seen["labels"].get(JOB_LABEL)):
            add(Key(seen["namespace"], name), first=True)

    return found


def settings() -> kopf.OperatorSettings:
    """Kopf reduced to a source of events: no peering, no posting, no finalizers, no annotations."""
    found = kopf.OperatorSettings()
    found.peering.standalone = True
    found.posting.enabled = False
    found.scanning.disabled = True
    found.process.ultimate_exiting_timeout = None
    found.persistence.finalizer = f"{GROUP}/unused"
    found.watching.label_selectors["batch", "v1", "jobs"] = "=".join(MANAGED_BY)
    found.watching.chunk_size = 500
    found.watching.server_timeout, found.watching.client_timeout = 300, 330
    found.watching.connect_timeout = found.networking.connect_timeout = 10
    found.networking.request_timeout = 30
    found.networking.error_backoffs = Backoffs()
    found.queueing.idle_timeout = found.queueing.exit_timeout = 0.5
    return found


async def watch(add: Adds, news: News, namespaces: tuple[str, ...], ready: Callable[[], None]) -> None:
    """Feed keys until cancelled. `ready` is called when Kopf is set up and has taken SIGTERM and SIGINT for itself."""
    flag: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    flag.add_done_callback(lambda done: None if done.cancelled() else ready())
    await kopf.operator(
        registry=registry(add, news),
        settings=settings(),
        clusterwide=not namespaces,
        namespaces=namespaces,
        ready_flag=flag,
        # Else Kopf asks for the name of the user, and in a container that uid 65532 has none.
        identity=cast(Any, "distillery"),
    )

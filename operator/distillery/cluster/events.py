"""Why something waits, in the cluster's own words: the Warnings of a namespace, read once for all who ask.

Kubernetes has no index of Events and no watch cache for them: a list about one object makes an API server read and decode all Events of the
namespace, as a list of all Warnings does. Were each of some hundred Jobs that wait to ask for its own, that would be most of its work.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from time import monotonic

from . import Body
from .session import Session, every, path

#: What was read is used for so many seconds; and for so many times as long as it took to read, so that this costs a tenth at most.
KEPT_SECONDS, KEPT_TIMES = 5.0, 10
_FIELDS = ("type", "reason", "message", "lastTimestamp", "eventTime")


@dataclass
class _Namespace:
    """What was read of one namespace, by the uid of the object that it is about, and until when it is used."""

    until: float = float("-inf")
    about: dict[str, list[Body]] = field(default_factory=dict)
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)


class Warnings:
    """Events of type Warning, of which the fields are kept that tell people something."""

    def __init__(self, session: Session, clock: Callable[[], float] = monotonic) -> None:
        self._session, self._clock = session, clock
        self._namespaces: defaultdict[str, _Namespace] = defaultdict(_Namespace)

    async def about(self, namespace: str, uid: str) -> list[Body]:
        """Those about one object. However many ask, one reads. ClusterError."""
        known = self._namespaces[namespace]
        async with known.lock:
            started = self._clock()
            if known.until <= started:
                self._forget(started)
                known.about = await self._read(namespace)
                read = self._clock()
                known.until = read + max(KEPT_SECONDS, KEPT_TIMES * (read - started))
        return known.about.get(uid, [])

    def _forget(self, now: float) -> None:
        for known in self._namespaces.values():
            if known.until <= now:
                known.about = {}

    async def _read(self, namespace: str) -> dict[str, list[Body]]:
        found: dict[str, list[Body]] = {}
        async for event in every(self._session, path("api/v1", namespace, "events"), fieldSelector="type=Warning"):
            told = {name: event[name] for name in _FIELDS if name in event}
            found.setdefault((event.get("involvedObject") or {}).get("uid", ""), []).append(told)
        return found

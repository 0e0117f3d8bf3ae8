"""The operator's view of the gateway: how far the running stages are."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from .api.result import Progress


class Gateway(Protocol):
    """Reads of the gateway. They never raise: progress is for people, and no decision may wait for it."""

    async def progress(self, namespace: str, job: str, uid: str) -> Mapping[str, Progress]:
        """Stage name to its latest report, for the DistillationJob of this uid; empty if there is none or the gateway does not answer."""

"""Tells how far a stage is: to the gateway (in a pod) or into a file (in a local run). A failure to tell never fails the stage."""

from __future__ import annotations

import logging
import os
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from pathlib import Path

from distillery.api import process
from distillery.api.measure import MetricValue
from distillery.api.result import Progress

log = logging.getLogger(__name__)
POST_SECONDS, FILE_SECONDS, TIMEOUT_SECONDS = 5.0, 0.5, 5.0


def metric_values(metrics: Mapping[str, float], limit: int) -> list[MetricValue]:
    """The first `limit` metrics as decimal strings: whole numbers exactly, others with six digits."""
    return [MetricValue(name=name[:63], value=_decimal(value)) for name, value in list(metrics.items())[:limit]]


def _decimal(value: float) -> str:
    whole = float(value).is_integer() and abs(value) < 1e15
    return str(int(value)) if whole else f"{value:.6g}"


class Reporter:
    """Keeps the newest report and sends it from a thread of its own, so that training never waits for the network."""

    def __init__(self, stage: str, stage_hash: str, environment: Mapping[str, str]) -> None:
        self._stage, self._hash = stage, stage_hash
        self._url = environment.get(process.PROGRESS_URL)
        self._token = environment.get(process.TOKEN_FILE)
        file = environment.get(process.PROGRESS_FILE)
        self._file = Path(file) if file else None
        self._start: tuple[float, int] | None = None
        self._newest: Progress | None = None
        self._checkpoint: int | None = None
        self._news, self._closed = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._send, name="progress", daemon=True)
        if self._url or self._file:
            self._thread.start()

    def report(
        self,
        done: int,
        total: int,
        unit: str,
        metrics: Mapping[str, float] | None = None,
        message: str | None = None,
        checkpoint_step: int | None = None,
    ) -> None:
        """`done` of `total` units are done. Cheap: call it after every unit. The remaining time is estimated from this run alone."""
        now = time.monotonic()
        if self._start is None:
            self._start = (now, done)
        self._checkpoint = checkpoint_step if checkpoint_step is not None else self._checkpoint
        seconds, units = now - self._start[0], done - self._start[1]
        self._newest = Progress(
            stage=self._stage,
            hash=self._hash,
            percentage=min(100, max(0, 100 * done // total)) if total else 0,
            estimated_remaining_seconds=min(31536000, int(seconds / units * max(0, total - done))) if units > 0 else None,
            done=done,
            total=total,
            unit=unit,
            checkpoint_step=self._checkpoint,
            metrics=metric_values(metrics or {}, 16),
            message=message[:256] if message else None,
        )
        self._news.set()

    def close(self) -> None:
        """Send the last report and end the thread."""
        self._closed.set()
        self._news.set()
        if self._thread.is_alive():
            self._thread.join(TIMEOUT_SECONDS * 2)

    def _send(self) -> None:
        while True:
            self._news.wait()
            self._news.clear()
            if self._newest is not None:
                self._tell(self._newest.model_dump_json(by_alias=True, exclude_none=True).encode())
            if self._closed.wait(POST_SECONDS if self._url else FILE_SECONDS) and not self._news.is_set():
                return

    def _tell(self, data: bytes) -> None:
        try:
            if self._file:
                temporary = self._file.with_name(f".{self._file.name}.{os.getpid()}")
                temporary.write_bytes(data)
                temporary.replace(self._file)
            if self._url:
                # Read each time: the kubelet renews the token in its file.
                token = Path(self._token).read_text().strip() if self._token else ""
                headers = {"Content-Type": "application/json", "Authorization": f"Bearer {token}"}
                request = urllib.request.Request(self._url, data=data, headers=headers, method="POST")
                with urllib.request.urlopen(request, timeout=TIMEOUT_SECONDS):
                    pass
        except (OSError, urllib.error.URLError, ValueError) as error:
            log.warning("progress was not delivered: %s", error)

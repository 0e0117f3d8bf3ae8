"""Waiting on a condition with a deadline."""

import threading
import time
from collections.abc import Callable
from typing import Any

POLL_SECONDS = 0.5


def eventually(until: Callable[[], Any], what: str, seconds: float, state: Callable[[], str] = str) -> Any:
    """The first true value of `until`, asked twice a second; AssertionError with `state` when the deadline passes."""
    pause, deadline = threading.Event(), time.monotonic() + seconds
    while not (value := until()):
        assert time.monotonic() < deadline, f"waited {seconds:.0f} s for {what}\n{state()}"
        pause.wait(POLL_SECONDS)
    return value

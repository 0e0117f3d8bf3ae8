"""Waiting on a condition with a deadline."""

import threading
import time
from collections.abc import Callable
from typing import Any

#: Twice a second at first; then a long wait costs little of what is waited for, which runs on the same cores.
POLL_SECONDS, LONGEST_SECONDS = 0.5, 2.0


def eventually(until: Callable[[], Any], what: str, seconds: float, state: Callable[[], str] = str) -> Any:
    """The first true value of `until`; AssertionError with `state` when the deadline passes."""
    pause, deadline, longer = threading.Event(), time.monotonic() + seconds, POLL_SECONDS
    while not (value := until()):
        assert time.monotonic() < deadline, f"waited {seconds:.0f} s for {what}\n{state()}"
        pause.wait(longer)
        longer = min(LONGEST_SECONDS, longer * 1.1)
    return value

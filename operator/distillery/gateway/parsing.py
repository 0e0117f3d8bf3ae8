"""JSON from outside: counted before it is parsed, and parsed beside the event loop where it is large."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from itertools import accumulate
from typing import Final, TypeVar

T = TypeVar("T")
#: What is larger is parsed beside the event loop: a MiB takes about 10 ms.
LARGE: Final = 64 * 1024
#: One at a time: what a parse needs beside its text (up to a hundred bytes for each value) exists once.
_THREAD: Final = ThreadPoolExecutor(1, "parser")
#: A string, or what was begun of one: it matches at every quotation mark, so that the scan is linear.
_STRING: Final = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+(?:"|\\?\Z)', re.DOTALL)
_MARKS: Final = (b"[", b"{", b",", b":")
_NO_BRACKETS: Final = bytes(set(range(256)) - set(b"[]{}"))
_STEPS: Final = {ord("["): 1, ord("{"): 1, ord("]"): -1, ord("}"): -1}


class TooMuch(ValueError):
    """JSON of more values or levels than are parsed; the message says which."""


def counted(raw: bytes, values: int, levels: int) -> None:
    """Raises TooMuch where the text has more values or is nested deeper: a MiB of brackets would become 60 MiB of lists."""
    if sum(map(raw.count, _MARKS)) <= min(values, levels):
        return
    bare = _STRING.sub(b"", raw)
    found = sum(map(bare.count, _MARKS))
    if found > values:
        raise TooMuch(f"it holds about {found} values, of which {values} are taken")
    deepest = max(accumulate(_STEPS[byte] for byte in bare.translate(None, _NO_BRACKETS)), default=0)
    if deepest > levels:
        raise TooMuch(f"it is nested {deepest} deep, of which {levels} levels are taken")


async def apart(size: int, work: Callable[[], T]) -> T:
    """What `work` gives, which parses so many bytes."""
    if size <= LARGE:
        return work()
    return await asyncio.get_running_loop().run_in_executor(_THREAD, work)

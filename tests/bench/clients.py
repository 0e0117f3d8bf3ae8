"""Clients that ask as fast as they are answered, over connections that stay open, with as little work of their own as can be."""

from __future__ import annotations

import asyncio
import json
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import count


@dataclass
class Heard:
    """What the clients have seen. Latencies in seconds, of answers with status 200."""

    wall: float = 0.0
    latencies: list[float] = field(default_factory=list)
    statuses: Counter[int] = field(default_factory=Counter)

    @property
    def rate(self) -> float:
        """Answers per second."""
        return len(self.latencies) / self.wall

    def at(self, part: float) -> float:
        """A quantile of the latencies, in milliseconds."""
        ordered = sorted(self.latencies)
        return 1000 * ordered[min(len(ordered) - 1, int(part * len(ordered)))]


@dataclass(frozen=True)
class Target:
    """An OpenAI-compatible server."""

    port: int
    path: str
    token: str
    model: str

    def request(self, number: int) -> bytes:
        """A question that nobody has asked before."""
        messages = [{"role": "user", "content": f"question number {number}: what is it?"}]
        body = json.dumps({"model": self.model, "messages": messages, "max_completion_tokens": 32}).encode()
        head = f"POST {self.path} HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {self.token}\r\ncontent-type: application/json\r\n"
        return f"{head}content-length: {len(body)}\r\n\r\n".encode() + body


_NUMBERS: Iterator[int] = count()


async def ask(target: Target, clients: int, seconds: float, most: int = 10**9) -> Heard:
    """Let so many clients ask for a time, at most `most` questions in all. A client stops when it is refused."""
    heard, left, started = Heard(), iter(range(most)), time.perf_counter()
    await asyncio.gather(*(_client(target, heard, left, started + seconds) for _ in range(clients)))
    heard.wall = time.perf_counter() - started
    return heard


async def _client(target: Target, heard: Heard, left: Iterator[int], until: float) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", target.port)
    try:
        while time.perf_counter() < until and next(left, None) is not None:
            sent = time.perf_counter()
            writer.write(target.request(next(_NUMBERS)))
            status, keep = await _answer(reader)
            heard.statuses[status] += 1
            if status != 200:
                return
            heard.latencies.append(time.perf_counter() - sent)
            if not keep:
                writer.close()
                reader, writer = await asyncio.open_connection("127.0.0.1", target.port)
    finally:
        writer.close()


async def _answer(reader: asyncio.StreamReader) -> tuple[int, bool]:
    """Status, and whether the connection stays open. Both servers send their answers whole, with a length."""
    head = (await reader.readuntil(b"\r\n\r\n")).lower()
    place = head.index(b"content-length:")
    await reader.readexactly(int(head[place + 15 :].split(b"\r\n", 1)[0]))
    return int(head[9:12]), b"connection: close" not in head


async def calls(port: int) -> int:
    """How many questions the mock teacher has answered."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"GET /calls HTTP/1.1\r\nhost: localhost\r\n\r\n")
    await reader.readuntil(b"\r\n\r\n")
    found = await reader.read(32)
    writer.close()
    return int(found)

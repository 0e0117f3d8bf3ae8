"""A teacher that answers at once: an HTTP server of the least work, so that a benchmark measures what stands before it.

`python tests/bench/mock_teacher.py` prints its port. POST /d<ms>/v1/chat/completions answers after so many milliseconds, always with the
same usage; GET /calls tells how many were answered.
"""

from __future__ import annotations

import asyncio
import json

PROMPT_TOKENS, COMPLETION_TOKENS = 30, 20
ANSWER = json.dumps(
    {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": 1,
        "model": "mock",
        "choices": [{"index": 0, "message": {"role": "assistant", "content": "four and twenty " * 4}, "finish_reason": "stop"}],
        "usage": {
            "prompt_tokens": PROMPT_TOKENS,
            "completion_tokens": COMPLETION_TOKENS,
            "total_tokens": PROMPT_TOKENS + COMPLETION_TOKENS,
        },
    }
).encode()
_END = b"\r\n\r\n"


def response(body: bytes) -> bytes:
    """A whole response."""
    return b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: " + str(len(body)).encode() + _END + body


class Connection(asyncio.Protocol):
    """One client; requests one after the other."""

    calls = 0
    _answer = response(ANSWER)

    def __init__(self) -> None:
        self._read = b""
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep it."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def connection_lost(self, exc: Exception | None) -> None:
        """Answers that are late are not sent."""
        self._transport = None

    def data_received(self, data: bytes) -> None:
        """Answer each request that is whole."""
        self._read += data
        while (end := self._read.find(_END)) >= 0:
            head = self._read[:end].lower()
            place = head.find(b"content-length:")
            length = int(head[place + 15 :].split(b"\r\n", 1)[0]) if place >= 0 else 0
            if len(self._read) < end + 4 + length:
                return
            self._read = self._read[end + 4 + length :]
            self._serve(head.split(b" ", 2)[1].decode())

    def _serve(self, path: str) -> None:
        if path == "/calls":
            self._send(response(json.dumps(Connection.calls).encode()))
            return
        Connection.calls += 1
        delay = int(path.removeprefix("/d").partition("/")[0]) / 1000
        if delay:
            asyncio.get_running_loop().call_later(delay, self._send, self._answer)
        else:
            self._send(self._answer)

    def _send(self, data: bytes) -> None:
        if self._transport is not None:
            self._transport.write(data)


async def main() -> None:
    """Serve until the process is ended."""
    server = await asyncio.get_running_loop().create_server(Connection, "127.0.0.1", 0, backlog=1024)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main())

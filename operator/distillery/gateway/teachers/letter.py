"""A request as it is sent: made before any money is held, and aware of whether it left."""

from __future__ import annotations

from typing import Any

from aiohttp.payload import BytesPayload

from distillery.gateway.question import Question


class Letter(BytesPayload):
    """The body of one request to a teacher; it is sent once."""

    def __init__(self, question: Question, streamed: bool) -> None:
        super().__init__(question.encoded(streamed), content_type="application/json")
        self.question = question
        self.sent = False
        """Whether a connection was given any of it. The head of a request goes out with the first bytes of its body."""

    async def write_with_length(self, writer: Any, content_length: int | None) -> None:
        """aiohttp is ready to send; the connection may have been closed since it was chosen."""
        transport = writer.transport
        self.sent = transport is not None and not transport.is_closing()
        await super().write_with_length(writer, content_length)

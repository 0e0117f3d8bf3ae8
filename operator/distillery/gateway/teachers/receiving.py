"""What comes back from a teacher, from the first byte to the last."""

from __future__ import annotations

import json
from functools import partial
from typing import Final

import aiohttp

from distillery.gateway.flights import Relay
from distillery.gateway.ledger import Why
from distillery.gateway.parsing import LARGE, TooMuch, apart, counted
from distillery.gateway.room import Portion

from .outcome import Doubtful, Outcome, Source, lost, of_status
from .reading import of_answer, of_object
from .stream import DONE, Assembly, Events

_MOST_ERROR_BYTES: Final = 64 * 1024
#: An answer of 4096 tokens with 20 log-probabilities each has 800,000.
_VALUES: Final = 1_000_000
_LEVELS: Final = 64
#: What an event of a stream takes beside its bytes.
_EVENT: Final = 128


async def received(
    response: aiohttp.ClientResponse, n: int, chat: bool, source: Source, relay: Relay | None, most: int, portion: Portion
) -> Outcome:
    """The outcome of an answer of at most so many bytes, which take room. Raises what aiohttp does where the connection breaks off."""
    if not 200 <= response.status < 300:
        return of_status(response.status, await _error_body(response), source)
    if relay is not None and response.content_type == "text/event-stream":
        return await _follow(response, n, chat, source, relay, most, portion)
    whole = await _read(response, most, portion)
    if whole is None:
        return _too_long(source, f"more than {most} bytes")
    return await apart(len(whole), partial(_of_counted, whole, n, source))


def _of_counted(whole: bytes, n: int, source: Source) -> Outcome:
    try:
        counted(whole, _VALUES, _LEVELS)
    except TooMuch as error:
        return _too_long(source, str(error))
    return of_answer(whole, n, source)


def _too_long(source: Source, what: str) -> Doubtful:
    return Doubtful(f"the answer of {source.name} is not read to its end: {what} (gateway.inFlight.answerMiB of the chart)", Why.TOO_LONG)


async def _read(response: aiohttp.ClientResponse, most: int, portion: Portion | None = None) -> bytes | None:
    """The body, or None where it is longer than `most`. What becomes large waits for room for all that it can become."""
    parts, length, told = [], 0, response.content_length or most
    async for part in response.content.iter_any():
        length += len(part)
        if length > most:
            return None
        if portion is not None and length > LARGE:
            await portion.grow(min(most, max(told, length)))
        parts.append(part)
    return parts[0] if len(parts) == 1 else b"".join(parts)


async def _error_body(response: aiohttp.ClientResponse) -> bytes:
    """What stands beside an error status, which alone decides: where it cannot be read, nothing."""
    try:
        return await _read(response, _MOST_ERROR_BYTES) or b""
    except (aiohttp.ClientError, TimeoutError, OSError) as error:
        return str(error).encode(errors="replace")


async def _follow(
    response: aiohttp.ClientResponse, n: int, chat: bool, source: Source, relay: Relay, most: int, portion: Portion
) -> Outcome:
    """Pass the events on and put the answer together. A stream that breaks off after its usage has told all that counts."""
    heard, events, length, cut = Heard(chat, source, relay), Events(), 0, "before its usage"
    try:
        async for part in response.content.iter_any():
            length += len(part)
            if length + _EVENT * heard.events > most:
                cut = f"after more than {most} bytes (gateway.inFlight.answerMiB of the chart)"
                break
            if length > LARGE:
                await portion.grow(most)
            for data in events.feed(part):
                await apart(len(data), partial(heard.take, data))
            if heard.done:
                break
        else:
            for data in events.end():
                heard.take(data)
    except (aiohttp.ClientError, TimeoutError, OSError) as error:
        cut = source.secret.shown(str(error) or type(error).__name__)
    return await apart(length, partial(heard.outcome, n, cut))


class Heard:
    """A stream so far."""

    def __init__(self, chat: bool, source: Source, relay: Relay) -> None:
        self._assembly, self._source, self._relay = Assembly(chat), source, relay
        self._spoilt = ""
        self.done = False
        self.events = 0

    def take(self, data: bytes) -> None:
        """One event: passed on, unless it cannot be read or would complete a piece of the key. Nothing counts after the end."""
        if self.done or data == DONE:
            self.done = True
            return
        self.events += 1
        try:
            counted(data, _VALUES, _LEVELS)
            chunk = json.loads(data)
            if not isinstance(chunk, dict):
                raise ValueError("it is no object")
            texts = self._assembly.add(chunk)
        except (ValueError, RecursionError) as error:
            # its usage may yet come, and tells what is to be paid
            self._spoilt = self._spoilt or f"an event of its stream cannot be read: {error}"
            return
        if self._repeats(data, chunk, texts):
            self._spoilt = "it repeats the key that it was sent"
        if self._spoilt or chunk.get("error"):
            return
        only_usage = not chunk.get("choices") and chunk.get("usage") is not None
        self._relay.put(self._assembly.passed_on(chunk), only_usage)

    def outcome(self, n: int, cut: str) -> Outcome:
        """At the end; `cut` says how it broke off, where it did."""
        if not self._assembly.billed and not self._assembly.error:
            return lost(self._source, f"broke off its stream {cut}", Why.STREAM_CUT)
        return of_object(self._assembly.answer(self.done), n, self._source, self._spoilt)

    def _repeats(self, data: bytes, chunk: object, texts: list[str]) -> bool:
        """A key may be spread over events, and hidden behind escapes."""
        secret = self._source.secret
        plain = json.dumps(chunk, ensure_ascii=False).encode(errors="replace") if b"\\u" in data else b""
        tails = (text[-(len(data) + secret.longest) :].encode(errors="replace") for text in texts)
        return any(secret.repeated_in(part) for part in (data, plain, *tails))

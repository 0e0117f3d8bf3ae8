"""One model behind an API: its connections, limits and circuit breaker. No redirects, no retries that a ledger does not see."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime
from typing import Final

import aiohttp
from yarl import URL

from distillery.api.budget import BudgetTeacher
from distillery.gateway.flights import Relay
from distillery.gateway.ledger import Why
from distillery.gateway.question import ROUTES, Question

from .breaker import Breakers, NamespaceBreaker, Probed
from .limits import Limits
from .outcome import Billed, Doubtful, Outcome, of_answer, of_object, of_status, unreachable
from .stream import DONE, Assembly, Events

#: No answer is longer: 64 choices with 20 log-probabilities a token stay below.
_MOST_BYTES: Final = 64 * 1024 * 1024
_MOST_ERROR_BYTES: Final = 64 * 1024
#: How providers call a request in their answers, so that a person finds it on the usage page: most; Anthropic; Azure; Bedrock.
_REQUEST_IDS: Final = ("x-request-id", "request-id", "apim-request-id", "x-amzn-requestid")
_PROBE_SECONDS: Final = 10.0
#: The key or the account is wrong for everybody; 403 is not among them: a key may be good for answers alone.
_BROKEN: Final = (401, 402)
_HEADERS: Final = {"Content-Type": "application/json", "Accept-Encoding": "identity", "User-Agent": "distillery-gateway"}


class Teacher:
    """Requests to one (base URL, credential, model), whatever budget they are for."""

    def __init__(self, base_url: str, timeout: float, clock: Callable[[], float], now: Callable[[], datetime]) -> None:
        self._urls = {route: URL(f"{base_url}/{route}") for route in ROUTES}
        self._timeout, self._now = timeout, now
        self._models = URL(f"{base_url}/models")
        self.limits, self.breakers = Limits(clock), Breakers(clock, self._probed)
        self._session: aiohttp.ClientSession | None = None

    async def close(self) -> None:
        """Close the connections."""
        await self.breakers.close()
        if self._session is not None:
            await self._session.close()

    async def ask(self, question: Question, name: str, breaker: NamespaceBreaker, hold: str, relay: Relay | None) -> Outcome:
        """Send it once, with the key of `breaker`, which learns from the outcome.

        With a relay the answer is streamed into it, all but the end, which waits until the answer is kept.
        """
        headers = {**_authorized(breaker.key), "X-Client-Request-Id": hold}
        body = question.body if relay is None else {**question.body, "stream": True, "stream_options": {"include_usage": True}}
        data = json.dumps(body, ensure_ascii=False, separators=(",", ":")).encode()
        try:
            outcome = await self._send(question, name, data, headers, relay)
        except (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError) as error:
            outcome = unreachable(name, str(error))
        except (aiohttp.ClientError, OSError) as error:
            outcome = self._lost(name, error)
        self._learn(outcome, breaker)
        return outcome

    async def _send(self, question: Question, name: str, data: bytes, headers: dict[str, str], relay: Relay | None) -> Outcome:
        async with self._connections().post(self._urls[question.route], data=data, headers=headers, allow_redirects=False) as response:
            try:
                outcome = await self._received(response, question, name, relay)
            except (aiohttp.ClientError, OSError) as error:
                outcome = self._lost(name, error)
            return replace(outcome, request_id=_request_id(response))

    async def _received(self, response: aiohttp.ClientResponse, question: Question, name: str, relay: Relay | None) -> Outcome:
        if not 200 <= response.status < 300:
            return of_status(response.status, response.headers, await _error_body(response), name, self._now())
        if relay is not None and response.content_type == "text/event-stream":
            return await _follow(response, question, name, relay)
        whole = await _read(response, _MOST_BYTES)
        if whole is None:
            return Doubtful(f'teacher "{name}" answered with more than {_MOST_BYTES} bytes', Why.TOO_LONG)
        return of_answer(whole, question.n)

    def _lost(self, name: str, error: aiohttp.ClientError | OSError) -> Doubtful:
        """Sent, and no whole answer came back."""
        if isinstance(error, TimeoutError):
            return Doubtful(f'teacher "{name}" did not answer in {self._timeout:g} s', Why.TIMEOUT)
        return Doubtful(f'teacher "{name}" broke off: {str(error) or type(error).__name__}', Why.CONNECTION_LOST)

    def _connections(self) -> aiohttp.ClientSession:
        if self._session is None:
            # Limits bounds the connections. Servers close idle ones after 5 s (uvicorn): a request that meets the close is in doubt.
            connector = aiohttp.TCPConnector(limit=0, keepalive_timeout=3.0)
            timeout = aiohttp.ClientTimeout(total=self._timeout, sock_connect=10)
            jar = aiohttp.DummyCookieJar()
            self._session = aiohttp.ClientSession(connector=connector, timeout=timeout, cookie_jar=jar, trust_env=False)
        return self._session

    async def _probed(self, key: str | None) -> Probed:
        """What the list of models tells, which costs nothing: an API that has none, or not for this key, tells nothing."""
        try:
            async with asyncio.timeout(_PROBE_SECONDS):
                async with self._connections().get(self._models, headers=_authorized(key), allow_redirects=False) as response:
                    status = response.status
        except ValueError:
            # a key that no header can hold: no request is sent with it either
            return Probed(None)
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            return Probed(False, f"{self._models} cannot be read: {type(error).__name__}")
        if 200 <= status < 300 or status == 429:
            return Probed(True)
        return Probed(False if status in _BROKEN or (status >= 500 and status != 501) else None, f"{self._models} answers {status}")

    def _learn(self, outcome: Outcome, breaker: NamespaceBreaker) -> None:
        if isinstance(outcome, Billed):
            self.limits.went_well()
            breaker.went_well()
        elif isinstance(outcome, Doubtful):
            breaker.failed(outcome.why)
        elif outcome.broken:
            breaker.broken(outcome.error.message)
        elif outcome.busy:
            self.limits.too_fast(outcome.wait)
            breaker.leave()
        elif outcome.error.retry_after is not None:
            breaker.failed(outcome.error.message)
        else:
            # it works: the request was wrong
            breaker.went_well()


class Teachers:
    """One Teacher for each model that a budget names."""

    def __init__(self, timeout: float, clock: Callable[[], float], now: Callable[[], datetime]) -> None:
        self._timeout, self._clock, self._now = timeout, clock, now
        self._known: dict[tuple[str, str | None, str], Teacher] = {}
        self._share = 1.0

    def of(self, budget: str, teacher: BudgetTeacher) -> Teacher:
        """The one for this budget's teacher, which keeps to the budget's limits."""
        identity = (teacher.base_url, teacher.credential, teacher.model)
        found = self._known.get(identity)
        if found is None:
            found = self._known[identity] = Teacher(teacher.base_url, self._timeout, self._clock, self._now)
            found.limits.share(self._share)
        found.limits.declare(f"{budget}/{teacher.name}", teacher.rate_limits)
        return found

    def share(self, part: float) -> None:
        """Of every teacher's limits this gateway uses so much; the others that live use the rest."""
        self._share = part
        for teacher in self._known.values():
            teacher.limits.share(part)

    async def close(self) -> None:
        """Close every connection."""
        await asyncio.gather(*(teacher.close() for teacher in self._known.values()))


def _request_id(response: aiohttp.ClientResponse) -> str | None:
    return next((response.headers[name] for name in _REQUEST_IDS if name in response.headers), None)


def _authorized(key: str | None) -> dict[str, str]:
    return dict(_HEADERS) if key is None else {**_HEADERS, "Authorization": f"Bearer {key}"}


async def _read(response: aiohttp.ClientResponse, most: int) -> bytes | None:
    """The body, or None where it is longer than `most`."""
    parts, length = [], 0
    async for part in response.content.iter_any():
        length += len(part)
        if length > most:
            return None
        parts.append(part)
    return parts[0] if len(parts) == 1 else b"".join(parts)


async def _error_body(response: aiohttp.ClientResponse) -> bytes:
    """What stands beside an error status, which alone decides: where it cannot be read, nothing."""
    try:
        return await _read(response, _MOST_ERROR_BYTES) or b""
    except (aiohttp.ClientError, TimeoutError, OSError) as error:
        return str(error).encode()


async def _follow(response: aiohttp.ClientResponse, question: Question, name: str, relay: Relay) -> Outcome:
    """Pass the events on and put the answer together. A stream that breaks off after its usage has told all that counts."""
    assembly, events, length = Assembly(question.route == "chat/completions"), Events(), 0
    cut: str | None = None
    try:
        async for part in response.content.iter_any():
            length += len(part)
            if length > _MOST_BYTES:
                cut = f"sent more than {_MOST_BYTES} bytes"
                break
            for data in events.feed(part):
                _pass_on(data, assembly, relay)
        for data in events.end():
            _pass_on(data, assembly, relay)
    except (aiohttp.ClientError, TimeoutError, OSError) as error:
        cut = str(error) or type(error).__name__
    except (ValueError, RecursionError, TypeError, AttributeError) as error:
        cut = f"sent an unreadable event: {error}"
    try:
        whole = assembly.answer() if assembly.whole(question.n) else None
    except TypeError as error:
        whole, cut = None, f"numbered its answers in an unreadable way: {error}"
    if whole is None:
        return Doubtful(f'the stream of teacher "{name}" broke off{f": {cut}" if cut else ""}', Why.STREAM_CUT)
    return of_object(whole, json.dumps(whole, ensure_ascii=False, separators=(",", ":")).encode(), question.n)


def _pass_on(data: bytes, assembly: Assembly, relay: Relay) -> None:
    if data == DONE:
        return
    chunk = json.loads(data)
    assembly.add(chunk)
    only_usage = not chunk.get("choices") and chunk.get("usage") is not None
    relay.put(b"data: " + data.replace(b"\n", b"\ndata: ") + b"\n\n", only_usage)

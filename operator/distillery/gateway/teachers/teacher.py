"""One model behind an API: its connections, limits and circuit breaker. No redirects, no retries that a ledger does not see."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime
from typing import Final

import aiohttp
from yarl import URL

from distillery.api.budget import BudgetTeacher
from distillery.gateway.flights import Relay
from distillery.gateway.foreign import secret
from distillery.gateway.ledger import Why
from distillery.gateway.question import ROUTES
from distillery.gateway.room import Portion, Sizes

from .breaker import Breakers, NamespaceBreaker, Probed
from .letter import Letter
from .limits import Limits
from .outcome import Billed, Doubtful, Outcome, Source, lost, not_sent, unreachable
from .receiving import received

#: How providers call a request in their answers, so that a person finds it on the usage page: most; Anthropic; Azure; Bedrock.
_REQUEST_IDS: Final = ("x-request-id", "request-id", "apim-request-id", "x-amzn-requestid")
_PROBE_SECONDS: Final = 10.0
#: The key or the account is wrong for everybody; 403 is not among them: a key may be good for answers alone.
_BROKEN: Final = (401, 402)
_HEADERS: Final = {"Content-Type": "application/json", "Accept-Encoding": "identity", "User-Agent": "distillery-gateway"}


class Teacher:
    """Requests to one (base URL, credential, model), whatever budget they are for."""

    def __init__(self, base_url: str, timeout: float, most: int, clock: Callable[[], float], now: Callable[[], datetime]) -> None:
        self._most = most
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

    async def ask(self, letter: Letter, name: str, breaker: NamespaceBreaker, hold: str, relay: Relay | None, portion: Portion) -> Outcome:
        """Send it once, with the key of `breaker`, which learns from the outcome. A large answer takes room, which `portion` keeps.

        With a relay the answer is streamed into it, all but the end, which waits until the answer is kept.
        """
        headers = {**_authorized(breaker.key), "X-Client-Request-Id": hold}
        source = Source(name, secret(breaker.key), {}, self._now())
        try:
            outcome = await self._send(letter, headers, source, relay, portion)
        except (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError) as error:
            outcome = unreachable(source, error)
        except (aiohttp.ClientError, OSError) as error:
            outcome = self._lost(source, error) if letter.sent else not_sent(source, str(error) or type(error).__name__)
        self._learn(outcome, breaker)
        return outcome

    async def _send(self, letter: Letter, headers: dict[str, str], source: Source, relay: Relay | None, portion: Portion) -> Outcome:
        question = letter.question
        async with self._connections().post(self._urls[question.route], data=letter, headers=headers, allow_redirects=False) as response:
            source = replace(source, headers=response.headers, now=self._now())
            try:
                outcome = await received(response, question.n, question.route == "chat/completions", source, relay, self._most, portion)
            except (aiohttp.ClientError, OSError) as error:
                outcome = self._lost(source, error)
            return replace(outcome, request_id=_request_id(source))

    def _lost(self, source: Source, error: aiohttp.ClientError | OSError) -> Doubtful:
        if isinstance(error, TimeoutError):
            return lost(source, f"did not answer in {self._timeout:g} s", Why.TIMEOUT)
        return lost(source, f"broke off: {str(error) or type(error).__name__}")

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

    def __init__(self, timeout: float, clock: Callable[[], float], now: Callable[[], datetime], most: int = Sizes.answer) -> None:
        self._timeout, self._most, self._clock, self._now = timeout, most, clock, now
        self._known: dict[tuple[str, str | None, str], Teacher] = {}
        self._share = 1.0

    def of(self, budget: str, teacher: BudgetTeacher) -> Teacher:
        """The one for this budget's teacher, which keeps to the budget's limits."""
        identity = (teacher.base_url, teacher.credential, teacher.model)
        found = self._known.get(identity)
        if found is None:
            found = self._known[identity] = Teacher(teacher.base_url, self._timeout, self._most, self._clock, self._now)
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


def _request_id(source: Source) -> str | None:
    """The provider's name for the request, where it is one: not the key in its place."""
    found = next((source.headers[name] for name in _REQUEST_IDS if name in source.headers), None)
    return found if found is not None and source.secret.hidden(found) == found else None


def _authorized(key: str | None) -> dict[str, str]:
    return dict(_HEADERS) if key is None else {**_HEADERS, "Authorization": f"Bearer {key}"}

"""One request to the gateway, one outcome. Nothing is retried here: whoever asks decides, since each attempt may cost."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any, Self

import httpx2
from pydantic import ValidationError

from distillery.api import process, reasons
from distillery.api.problems import problems
from distillery.api.refusals import BY_CODE, HEALED
from distillery.api.result import OUT_OF_BUDGET
from distillery.api.usage import TeacherInfo
from distillery_trainer.errors import StageError

#: An answer may take minutes; the gateway has a bound of its own, and keeps an answer that nobody waits for any more.
_READ_SECONDS, _CONNECT_SECONDS = 900.0, 10.0
_MOST_CONNECTIONS = 512


@dataclass(frozen=True)
class Reply:
    """An answer in the API's own words, and what the gateway says of it: bought (`requests`) or there already (`hits`), its cost in
    nano-dollars, the key that it is filed under, the terms that it came under. `lacking` is why some of its choices are not there.
    """

    body: Mapping[str, Any]
    requests: int
    hits: int
    cost: int
    key: str
    terms: tuple[str, ...]
    lacking: str = ""


class Trouble(Exception):
    """A request without an answer; `message` is the gateway's sentence."""

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message


class Later(Trouble):
    """Ask again: a rate limit, or a gateway that is not there or takes nothing at the moment. `seconds` if it said when."""

    def __init__(self, message: str, seconds: float | None = None) -> None:
        super().__init__(message)
        self.seconds = seconds


class InDoubt(Trouble):
    """Sent to the teacher, outcome unknown, booked at its worst case; another attempt is another hold. `sample` is the request's."""

    sample = 0


class Unanswered(Trouble):
    """This row gets no answer: the teacher refuses the request itself."""


class Closed(Trouble):
    """No request of this job is answered any more; `error` ends the stage."""

    def __init__(self, error: StageError) -> None:
        super().__init__(error.message)
        self.error = error


class Gateway:
    """The gateway as this pod reaches it. The token's file is read for each request, since the kubelet renews it."""

    def __init__(self, url: str, token_file: Path | None) -> None:
        self._token_file = token_file
        # a proxy of the environment is for the hub and the store; the gateway is in the cluster
        self._client = httpx2.AsyncClient(
            base_url=url.rstrip("/"),
            timeout=httpx2.Timeout(_READ_SECONDS, connect=_CONNECT_SECONDS, pool=None),
            limits=httpx2.Limits(max_connections=_MOST_CONNECTIONS, max_keepalive_connections=_MOST_CONNECTIONS),
            trust_env=False,
        )

    @classmethod
    def of(cls, environment: Mapping[str, str]) -> Self:
        """From the environment. StageError where the first is not set."""
        url, token = environment.get(process.GATEWAY_URL), environment.get(process.TOKEN_FILE)
        if not url:
            text = f"a teacher behind an API is asked through the gateway, whose URL {process.GATEWAY_URL} is not set"
            raise StageError(reasons.GATEWAY_UNAVAILABLE, f"spec.teacher.endpoint: {text}: install the chart with its gateway")
        return cls(url, Path(token) if token else None)

    async def __aenter__(self) -> Self:
        await self._client.__aenter__()
        return self

    async def __aexit__(self, *error: Any) -> None:
        await self._client.__aexit__(*error)

    async def teacher(self) -> TeacherInfo:
        """Who the job's teacher is, and under which terms and prices. Trouble where it cannot be asked."""
        response = await self._send("GET", "/v1/teacher")
        try:
            return TeacherInfo.model_validate_json(response.content)
        except ValidationError as error:
            raise Later(f"the gateway's word on the teacher is not understood: {problems(error)[0]}") from error

    async def ask(self, path: str, body: Mapping[str, Any], sample: int = 0) -> Reply:
        """One request in the form of the OpenAI API, for example to /v1/chat/completions. Trouble where there is no answer."""
        headers = {"X-Distillery-Sample": str(sample)} if sample else {}
        try:
            response = await self._send("POST", path, json=dict(body), headers=headers)
        except InDoubt as doubt:
            doubt.sample = sample
            raise
        found = _json(response)
        if not isinstance(found.get("choices"), list):
            raise Unanswered(f"the teacher's answer has no choices: {response.text[:200]}")
        said = response.headers
        terms = tuple(term.strip() for term in said.get("X-Distillery-Terms", "").split(",") if term.strip())
        cost, bought = int(said.get("X-Distillery-Cost", "0")), said.get("X-Distillery-Cache", "miss") == "miss"
        return Reply(found, int(bought), int(not bought), cost, said.get("X-Distillery-Answer", ""), terms)

    async def _send(self, method: str, path: str, **parts: Any) -> httpx2.Response:
        headers = {**parts.pop("headers", {}), **self._authorization()}
        try:
            response = await self._client.request(method, path, headers=headers, **parts)
        except httpx2.TransportError as error:
            raise Later(f"the gateway does not answer ({type(error).__name__}: {error})") from error
        if response.status_code != 200:
            raise _trouble(response)
        return response

    def _authorization(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self._token_file.read_text().strip()}"} if self._token_file else {}


def _json(response: httpx2.Response) -> dict[str, Any]:
    try:
        found = response.json()
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def _trouble(response: httpx2.Response) -> Trouble:
    """What a status and an error object mean for whoever asks."""
    error = _json(response).get("error")
    told = error if isinstance(error, dict) else {}
    code, message = str(told.get("code") or ""), str(told.get("message") or f"HTTP {response.status_code} {response.text[:200]}")
    message, status = message.encode(errors="replace").decode(), response.status_code
    refusal = BY_CODE.get(code)
    if refusal is not None and refusal.cause in HEALED:
        resumes = response.headers.get("X-Distillery-Resumes")
        when = f"; it resumes at {resumes}" if resumes and resumes not in message else ""
        return Closed(StageError(refusal.told_as, f"{message}{when}; the answers bought so far are kept", OUT_OF_BUDGET))
    if code == "in_doubt":
        return InDoubt(message)
    if status in (400, 413, 422) or code == "teacher_failed":
        return Unanswered(message)
    if refusal is not None and refusal.cause == "moment":
        return Later(message)
    if status in (403, 404):
        reason = reasons.INVALID_SPEC if code == "invalid_spec" else reasons.ACCESS_DENIED
        return Closed(StageError(reason, f"spec.teacher.endpoint: {message}"))
    # 401 too: a token that was just renewed, or an API server that reviews none at the moment
    return Later(message, _retry_after(response))


def _retry_after(response: httpx2.Response) -> float | None:
    """Seconds that Retry-After asks for, as a number or as a date."""
    text = response.headers.get("Retry-After")
    if text is None:
        return None
    try:
        seconds = float(text)
    except ValueError:
        try:
            seconds = (parsedate_to_datetime(text) - datetime.now(UTC)).total_seconds()
        except (ValueError, TypeError):
            return None
    # "inf" is a number too, and a pod that obeys it never asks again
    return max(0.0, seconds) if math.isfinite(seconds) else None

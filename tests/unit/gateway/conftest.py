"""A gateway on loopback with its real ledger, one job, one budget, and a teacher that a test scripts."""

from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from tests.loopback import Objects, gateway, law
from tests.unit.gateway.teacher_double import TeacherDouble

from distillery.gateway.assembly import Asking
from distillery.gateway.credentials import CredentialEntry, Credentials
from distillery.gateway.ledger import JobRef, JobUsage, WindowUse, accounts_of
from distillery.health import serving

Body = dict[str, Any]
NOON = datetime(2026, 11, 24, 12, tzinfo=UTC)


class Time:
    """Time of day and a monotonic clock, which pass when a test says so."""

    def __init__(self) -> None:
        self.passed = timedelta()
        self.start = NOON

    def now(self) -> datetime:
        """The time of day."""
        return self.start + self.passed

    def clock(self) -> float:
        """Seconds."""
        return self.passed.total_seconds()

    def forward(self, **parts: float) -> None:
        """Let it pass."""
        self.passed += timedelta(**parts)


def teacher_spec(base_url: str, **more: Any) -> Body:
    """A teacher at 1 USD per million tokens in and 4 USD out."""
    found = {
        "name": "gpt-x",
        "baseURL": base_url,
        "model": "gpt-x-2026-01-01",
        "credential": "openai",
        "prices": {"inputPerMillion": "1.00", "outputPerMillion": "4.00"},
        "terms": {"service": "self-hosted", "weights": "apache-2.0"},
        "maxCompletionTokens": 100,
    }
    return {key: value for key, value in {**found, **more}.items() if value is not None}


def budget(base_url: str, limits: Body | None = None, name: str = "team-a", **more: Any) -> Body:
    """A TeacherBudget with that teacher."""
    teachers = more.pop("teachers", [teacher_spec(base_url)])
    spec = {"limits": limits or {"total": "1.00"}, "teachers": teachers, **more}
    return {"apiVersion": "distillery.dev/v1alpha1", "kind": "TeacherBudget", "metadata": {"name": name, "namespace": "nlp"}, "spec": spec}


def job(name: str = "arith", budget_name: str = "team-a", teacher: str = "gpt-x", **use: Any) -> Body:
    """A DistillationJob that asks it, as far as the gateway reads one."""
    spec = {
        "teacher": {"endpoint": {"teacher": teacher, "sampling": {"maxCompletionTokens": 50}}},
        "budgetRef": {"name": budget_name},
        "governance": {"declaredUse": {"purpose": "internal", "competes": False, **use}},
    }
    return {
        "apiVersion": "distillery.dev/v1alpha1",
        "kind": "DistillationJob",
        "metadata": {"name": name, "namespace": "nlp"},
        "spec": spec,
    }


@dataclass
class Reply:
    """A response, read."""

    status: int
    headers: Any
    text: str
    json: Any

    @property
    def code(self) -> str:
        """Of the error object."""
        found: str = self.json["error"]["code"]
        return found

    @property
    def cache(self) -> str:
        """X-Distillery-Cache."""
        found: str = self.headers["X-Distillery-Cache"]
        return found


@dataclass
class Gate:
    """The gateway under test. `ask` is a stage pod's chat request, `operator` a request of the operator."""

    url: str
    teacher_url: str
    asking: Asking
    objects: Objects
    teacher: TeacherDouble
    time: Time
    http: aiohttp.ClientSession
    defaults: Body = field(default_factory=lambda: {"model": "gpt-x", "max_completion_tokens": 50})

    async def ask(
        self,
        text: str = "6*7?",
        token: str = "pod:nlp/arith/traces",
        headers: Body | None = None,
        path: str = "/v1/chat/completions",
        **more: Any,
    ) -> Reply:
        """Ask the teacher; the read response."""
        question = {"messages": [{"role": "user", "content": text}]} if path.endswith("chat/completions") else {"prompt": text}
        body = {**self.defaults, **question, **more}
        return await self.request("POST", path, token, json=body, headers=headers)

    async def request(self, method: str, path: str, token: str | None = "operator", headers: Body | None = None, **more: Any) -> Reply:
        """Any request."""
        given = {**({} if token is None else {"Authorization": f"Bearer {token}"}), **(headers or {})}
        async with self.http.request(method, self.url + path, headers=given, **more) as response:
            text = await response.text()
            parsed = await response.json() if response.content_type == "application/json" and text else None
            return Reply(response.status, response.headers, text, parsed)

    async def window(self, name: str = "total") -> WindowUse:
        """A window in money of the budget."""
        found = {use.account.window: use for use in await self.asking.ledger.windows(self.accounts()) if use.account.unit == "USD"}
        return found[name]  # type: ignore[index]

    def accounts(self, uid: str = "uid-arith") -> Any:
        """As the ledger keeps them."""
        return accounts_of("nlp/team-a", uid, {}, {}, self.time.now())

    async def usage(self, uid: str = "uid-arith") -> JobUsage:
        """Of a job."""
        return await self.asking.ledger.usage(JobRef("nlp/team-a", uid))

    def limits(self, **limits: Any) -> None:
        """Change the budget's limits, and let the gateway see it."""
        known = self.objects.budgets["nlp", "team-a"]
        self.objects.apply({**known, "spec": {**known["spec"], "limits": limits}})
        self.time.forward(seconds=10)


@pytest.fixture
def time() -> Time:
    return Time()


@pytest.fixture
async def gate(tmp_path: Path, time: Time) -> AsyncIterator[Gate]:
    objects, teacher = Objects(), TeacherDouble()
    (tmp_path / "key").write_text("sk-secret\n")
    async with serving(teacher.app(), "127.0.0.1", 0) as port, aiohttp.ClientSession() as http:
        teacher_url = f"http://127.0.0.1:{port}/v1"
        objects.apply(budget(teacher_url))
        objects.apply(job())
        entry = {"name": "openai", "baseURLs": [teacher_url], "namespaces": ["nlp"], "keyFile": "key"}
        credentials = Credentials([CredentialEntry.model_validate(entry)], (), time.clock, tmp_path)
        database = f"sqlite:///{tmp_path}/ledger.db"
        async with gateway(objects, law(credentials, set()), database, now=time.now, clock=time.clock) as (url, asking):
            yield Gate(url, teacher_url, asking, objects, teacher, time, http)

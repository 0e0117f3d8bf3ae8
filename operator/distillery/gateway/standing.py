"""May this job ask its teacher, on which account and at which price? Judged from the live objects, for a few seconds at a time."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from datetime import UTC, date, datetime
from functools import partial
from typing import Any, Protocol

from pydantic import ValidationError

from distillery.api import reasons
from distillery.api.budget import BudgetTeacher, TeacherBudgetSpec
from distillery.api.governance import DeclaredUse, PolicyVerdict
from distillery.api.problems import problems
from distillery.api.teacher import TeacherEndpoint
from distillery.cluster import Body, NotFound
from distillery.prices import PriceList, PriceUnknown, price_of
from distillery.terms import Catalogue, judge, reason_of

from .credentials import EVERY, Credential, Credentials
from .errors import MODEL_NOT_FOUND, Refused, refusal
from .identity import JobId
from .ledger import Account, JobRef, accounts_of
from .permits import Permit, permit_of
from .recent import Recent

#: A change of a job or of a budget counts after at most the sum of these, in seconds.
JOB_SECONDS, BUDGET_SECONDS = 3.0, 2.0


class Objects(Protocol):
    """The reads of the API server that decide about money."""

    async def get_job(self, namespace: str, name: str) -> Body:
        """A DistillationJob. NotFound."""

    async def get_budget(self, namespace: str, name: str) -> Body:
        """A TeacherBudget. NotFound."""


@dataclass(frozen=True)
class Standing:
    """A job that may ask its teacher: all that a request has to know of it."""

    job: JobId
    budget: str
    """namespace/name."""
    spec: TeacherBudgetSpec
    endpoint: TeacherEndpoint
    teacher: BudgetTeacher
    credential: Credential | None
    prices: PriceList
    verdict: PolicyVerdict
    terms: str
    """Ids of the terms that apply, with commas."""
    scope: str
    """Who may be given its answers again."""
    accounts: tuple[Account, ...]
    day: date
    permit: Permit
    """Whether anything may be spent for the job at all, and by which run."""

    @property
    def ref(self) -> JobRef:
        """As the ledger names the job."""
        return JobRef(self.budget, self.job.uid)

    @property
    def payer(self) -> str:
        """As the limits of a teacher name whoever asks it: the budget, and the teacher in it."""
        return f"{self.budget}/{self.teacher.name}"

    def asks_as(self, other: Standing) -> bool:
        """Whether the same request goes to the same place, and its answer is filed under the same key; prices and terms may differ."""
        differ = {"prices": self.teacher.prices, "terms": self.teacher.terms, "rate_limits": self.teacher.rate_limits}
        same = other.teacher.model_copy(update=differ) == self.teacher
        return same and (self.budget, self.scope) == (other.budget, other.scope)

    def holds_at(self, now: datetime) -> bool:
        """Whether day and prices are still those that it was judged by."""
        return self.day == now.astimezone(UTC).date() and (self.prices.valid_until is None or now < self.prices.valid_until)


@dataclass(frozen=True)
class Law:
    """What an installation decides, for every job alike."""

    catalogue: Catalogue
    credentials: Credentials
    shared_cache: Collection[str] = ()
    """Namespaces that may share their cache."""

    def standing(self, job: JobId, asks: Asks, spec: TeacherBudgetSpec, now: datetime) -> Standing:
        """The standing of a job, or the first thing that forbids it, as Refused."""
        budget = f"{job.namespace}/{asks.budget}"
        teacher = spec.teacher(asks.endpoint.teacher)
        if teacher is None:
            text = f'spec.teacher.endpoint.teacher: TeacherBudget "{asks.budget}" has no teacher "{asks.endpoint.teacher}"; it has'
            raise refusal(MODEL_NOT_FOUND, f"{text} {', '.join(known.name for known in spec.teachers)}")
        today = now.astimezone(UTC).date()
        verdict = judge(asks.use, teacher, self.catalogue, today)
        reason = reason_of(verdict)
        if reason is not None:
            raise refusal(reason, verdict.message)
        scope = self._scope(spec, job.namespace)
        return Standing(
            job=job,
            budget=budget,
            spec=spec,
            endpoint=asks.endpoint,
            teacher=teacher,
            credential=self.credentials.of(teacher, job.namespace),
            prices=self.prices(teacher, now),
            verdict=verdict,
            terms=",".join(verdict.terms),
            scope=scope,
            accounts=accounts_of(budget, job.uid, spec.limits.nano(), spec.limits.in_tokens(), now),
            day=today,
            permit=asks.permit,
        )

    def prices(self, teacher: BudgetTeacher, now: datetime) -> PriceList:
        """What a teacher costs. Refused where nothing bounds it."""
        try:
            return price_of(teacher, now)
        except PriceUnknown as error:
            raise refusal(reasons.PRICE_UNKNOWN, str(error)) from None

    def _scope(self, spec: TeacherBudgetSpec, namespace: str) -> str:
        if spec.cache.scope == "namespace":
            return f"namespace/{namespace}"
        if namespace not in self.shared_cache and EVERY not in self.shared_cache:
            text = f'spec.cache.scope: "shared" is not permitted in namespace "{namespace}"; set it to namespace, or add the namespace to'
            raise refusal(reasons.SCOPE_FORBIDDEN, f"{text} sharedCacheNamespaces of the chart")
        return "shared"


@dataclass(frozen=True)
class Asks:
    """What a DistillationJob says about its teacher."""

    budget: str
    endpoint: TeacherEndpoint
    use: DeclaredUse
    permit: Permit


class Standings:
    """The standing of each job, looked up when it is asked for. `clock` is monotonic, `now` the time of day."""

    def __init__(self, objects: Objects, law: Law, clock: Callable[[], float], now: Callable[[], datetime]) -> None:
        self._objects, self._law, self._now = objects, law, now
        self._budgets: Recent[tuple[str, str], TeacherBudgetSpec] = Recent(clock, BUDGET_SECONDS)
        self._known: Recent[JobId, Standing] = Recent(clock, JOB_SECONDS)
        self._parsed: dict[tuple[str, str], tuple[str, TeacherBudgetSpec]] = {}

    async def of(self, job: JobId) -> Standing:
        """A job's standing, a few seconds old at most. Refused; ClusterError where the API server does not answer."""
        found = await self._known.get(job, partial(self._judge, job))
        if found.holds_at(self._now()):
            return found
        self._known.forget(job)
        return await self._known.get(job, partial(self._judge, job))

    async def of_now(self, job: JobId) -> Standing:
        """A job's standing by what stands in job and budget at this moment."""
        asks = await self._asks(job)
        self._budgets.forget((job.namespace, asks.budget))
        self._known.forget(job)
        return await self._known.get(job, partial(self._judge, job))

    async def budget(self, namespace: str, name: str) -> TeacherBudgetSpec:
        """A TeacherBudget as it is at this moment. Refused where there is none."""
        self._budgets.forget((namespace, name))
        return await self._budgets.get((namespace, name), partial(self._read_budget, namespace, name))

    async def _asks(self, job: JobId) -> Asks:
        try:
            body = await self._objects.get_job(job.namespace, job.name)
        except NotFound:
            raise Refused(404, reasons.GONE, f"DistillationJob {job.namespace}/{job.name} is no more") from None
        if body["metadata"]["uid"] != job.uid:
            raise Refused(404, reasons.GONE, f"DistillationJob {job.namespace}/{job.name} is another one by now")
        return _said(job, body["spec"], permit_of(body))

    async def _judge(self, job: JobId) -> Standing:
        asks = await self._asks(job)
        spec = await self._budgets.get((job.namespace, asks.budget), partial(self._read_budget, job.namespace, asks.budget))
        return self._law.standing(job, asks, spec, self._now())

    async def _read_budget(self, namespace: str, name: str) -> TeacherBudgetSpec:
        key = (namespace, name)
        try:
            body = await self._objects.get_budget(namespace, name)
        except NotFound:
            text = f'spec.budgetRef: TeacherBudget "{name}" does not exist in namespace "{namespace}"; ask your platform team to create it'
            self._parsed.pop(key, None)
            raise refusal(reasons.BUDGET_MISSING, text) from None
        version = f"{body['metadata']['uid']}/{body['metadata'].get('generation')}"
        known = self._parsed.get(key)
        if known is None or known[0] != version:
            known = self._parsed[key] = (version, _validated(TeacherBudgetSpec, body["spec"], f"TeacherBudget {namespace}/{name}: spec"))
        return known[1]


def _said(job: JobId, spec: Body, permit: Permit) -> Asks:
    where = f"DistillationJob {job.namespace}/{job.name}: spec"
    endpoint = spec.get("teacher", {}).get("endpoint")
    if endpoint is None:
        raise refusal(reasons.TEACHER_UNKNOWN, f"{where}.teacher: has no endpoint, so there is no teacher to ask through the gateway")
    use = (spec.get("governance") or {}).get("declaredUse")
    if not spec.get("budgetRef") or use is None:
        raise refusal(reasons.INVALID_SPEC, f"{where}: teacher.endpoint needs budgetRef and governance.declaredUse")
    return Asks(
        budget=spec["budgetRef"]["name"],
        endpoint=_validated(TeacherEndpoint, endpoint, f"{where}.teacher.endpoint"),
        use=_validated(DeclaredUse, use, f"{where}.governance.declaredUse"),
        permit=permit,
    )


def _validated(model: Any, value: object, where: str) -> Any:
    try:
        return model.model_validate(value)
    except ValidationError as error:
        raise refusal(reasons.INVALID_SPEC, "; ".join(problems(error, where))[:1000]) from None

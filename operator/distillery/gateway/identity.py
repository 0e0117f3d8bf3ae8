"""Who calls: proved by a ServiceAccount token made for us, and by the live objects behind it.

A token for our audience that names a Pod, that Pod with the same uid, its Job, and the Job's DistillationJob: only this chain lets a
caller speak, and only about its own stage.
"""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import NamedTuple, Protocol, TypeVar

from distillery.api import reasons
from distillery.api.base import API_VERSION
from distillery.body import Body, controller
from distillery.cluster import NotFound
from distillery.settings import GATEWAY_AUDIENCE, STAGE_LABEL

from .door import Bearer, Door
from .errors import Refused
from .recent import Recent

_EXTRA = "authentication.kubernetes.io/"
_ACCOUNT = "system:serviceaccount:"
_INDEX = "batch.kubernetes.io/job-completion-index"
V = TypeVar("V", "StagePod", "Account")


class Reviews(Protocol):
    """The reads of the API server that prove an identity."""

    async def review_token(self, token: str, audience: str) -> Body:
        """The status of a TokenReview."""

    async def get_pod(self, namespace: str, name: str) -> Body:
        """A Pod. NotFound."""

    async def get_child(self, kind: str, namespace: str, name: str) -> Body:
        """A batch/v1 Job. NotFound."""

    async def get_job(self, namespace: str, name: str) -> Body:
        """A DistillationJob. NotFound."""


class JobId(NamedTuple):
    """One DistillationJob; a namesake that came later has another uid."""

    namespace: str
    name: str
    uid: str


@dataclass(frozen=True)
class StagePod:
    """A running pod of a stage, and the DistillationJob (by uid) that it works for."""

    namespace: str
    job: str
    uid: str
    stage: str
    pod: str
    run: str
    """The batch Job that the pod belongs to."""
    shard: str
    """Its index among the pods of that Job."""
    pod_uid: str
    run_uid: str

    @property
    def owner(self) -> JobId:
        """The DistillationJob."""
        return JobId(self.namespace, self.job, self.uid)


@dataclass(frozen=True)
class Account:
    """What a token says by itself: a ServiceAccount, and the Pod that it was made for, if any."""

    namespace: str
    name: str
    pod: str | None
    pod_uid: str | None


class Identities:
    """Proofs, each verdict (a refusal too) kept for `seconds` by the token's digest, and looked for by one at a time.

    `clock` is monotonic; `door` bounds how many look for one address.
    """

    def __init__(self, reviews: Reviews, clock: Callable[[], float], door: Door, seconds: float = 60.0, capacity: int = 10_000) -> None:
        self._reviews, self._door = reviews, door
        self._accounts: Recent[bytes, Account] = Recent(clock, seconds, capacity)
        self._pods: Recent[bytes, StagePod] = Recent(clock, seconds, capacity)

    async def account(self, bearer: Bearer) -> Account:
        """The ServiceAccount of a token made for us. Refused; ClusterError where the API server does not answer."""
        return await self._once(self._accounts, bearer, self._account)

    async def stage_pod(self, bearer: Bearer) -> StagePod:
        """The stage pod that a token belongs to. Refused; ClusterError where the API server does not answer."""
        return await self._once(self._pods, bearer, self._stage_pod)

    async def _once(self, known: Recent[bytes, V], bearer: Bearer, prove: Callable[[str], Awaitable[V]]) -> V:
        key = hashlib.sha256(bearer.token.encode()).digest()
        proved = known.peek(key)
        if proved is not None:
            return proved
        if not known.is_loading(key):
            self._door.spend(bearer.address)
        return await known.get(key, lambda: prove(bearer.token))

    async def _account(self, token: str) -> Account:
        status = await self._reviews.review_token(token, GATEWAY_AUDIENCE)
        if not status.get("authenticated") or GATEWAY_AUDIENCE not in status.get("audiences", ()):
            raise Refused(401, reasons.TOKEN_INVALID, f"the token is expired, unknown or not made for audience {GATEWAY_AUDIENCE!r}")
        user = status["user"]
        if not user["username"].startswith(_ACCOUNT):
            raise Refused(403, reasons.NOT_A_SERVICE_ACCOUNT, "the token is not a ServiceAccount's")
        namespace, name = user["username"].removeprefix(_ACCOUNT).split(":")
        extra = user.get("extra", {})
        return Account(namespace, name, *(next(iter(extra.get(_EXTRA + part, ())), None) for part in ("pod-name", "pod-uid")))

    async def _stage_pod(self, token: str) -> StagePod:
        account = await self._account(token)
        if account.pod is None or account.pod_uid is None:
            raise Refused(403, reasons.NO_POD, "the token was not made for a pod: mount it as a projected volume of the stage's pod")
        pod = await live(f"Pod {account.pod}", account.pod_uid, self._reviews.get_pod(account.namespace, account.pod))
        namespace, reviews = account.namespace, self._reviews
        job = await _owner(pod, "batch/v1", "Job", lambda name: reviews.get_child("Job", namespace, name))
        owner = await _owner(job, API_VERSION, "DistillationJob", lambda name: reviews.get_job(namespace, name))
        return StagePod(
            namespace=namespace,
            job=owner["metadata"]["name"],
            uid=owner["metadata"]["uid"],
            stage=job["metadata"].get("labels", {}).get(STAGE_LABEL, ""),
            pod=account.pod,
            run=job["metadata"]["name"],
            shard=pod["metadata"].get("labels", {}).get(_INDEX, "0"),
            pod_uid=account.pod_uid,
            run_uid=job["metadata"]["uid"],
        )


async def live(what: str, uid: str, reading: Awaitable[Body]) -> Body:
    """The object that is read, if it is still the one of that uid. Refused."""
    try:
        body = await reading
    except NotFound:
        raise Refused(403, reasons.GONE, f"{what} is no more") from None
    if body["metadata"]["uid"] != uid:
        raise Refused(403, reasons.GONE, f"{what} is another one by now")
    return body


async def _owner(child: Body, version: str, kind: str, get: Callable[[str], Awaitable[Body]]) -> Body:
    owner = controller(child)
    if owner is None or (owner["apiVersion"], owner["kind"]) != (version, kind):
        raise Refused(403, reasons.NOT_A_STAGE_POD, f"{child['metadata']['name']} is not controlled by a {kind} of {version}")
    return await live(f"{kind} {owner['name']}", owner["uid"], get(owner["name"]))

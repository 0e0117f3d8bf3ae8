"""What the control plane needs of a Kubernetes API server: an interface, its errors, nothing that talks.

`reconcile` and the tests speak to the `Cluster` protocol; `cluster.api_server` answers it over the network and is, with `cluster.session`,
the only importer of the kubernetes client. Objects are the JSON dicts of the API, never typed models.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

from distillery.body import Body as Body


class Key(NamedTuple):
    """Which DistillationJob: what watch events become, and what the queue holds."""

    namespace: str
    name: str

    def __str__(self) -> str:
        return f"{self.namespace}/{self.name}"


@dataclass(frozen=True)
class BudgetKey:
    """Which TeacherBudget, in the same queue. No tuple: one would be the same as the Key of a job of its name."""

    namespace: str
    name: str

    def __str__(self) -> str:
        return f"{self.namespace}/{self.name}"


class ClusterError(Exception):
    """A call to the API server that did not do what it was asked. `message` is the server's own sentence."""

    def __init__(self, message: str = "") -> None:
        super().__init__(message)
        self.message = message


class NotFound(ClusterError):
    """404: the object, or its namespace, is not there."""


class Conflict(ClusterError):
    """409: the object changed since it was read, or is not the one that the uid names. Read again."""


class AlreadyExists(ClusterError):
    """409 on create: an object of that name is there, perhaps ours."""


class Invalid(ClusterError):
    """400 or 422: the server will never accept this body."""


class Forbidden(ClusterError):
    """403: RBAC, a quota, Pod Security or an admission policy refuses; may heal by itself."""


class Unavailable(ClusterError):
    """No answer, 401, 429 or 5xx: try again later."""


class LeadershipLost(ClusterError):
    """The Lease's deadline passed before a write: another replica may lead, so nothing is written."""


@dataclass(frozen=True)
class Children:
    """Batch Jobs, all or some, and all the Pods of one DistillationJob, whatever their state."""

    jobs: list[Body] = field(default_factory=list)
    pods: list[Body] = field(default_factory=list)


class Cluster(Protocol):
    """The reads and writes of reconcile. Every method may raise Unavailable and Forbidden; writes may raise LeadershipLost."""

    async def get_job(self, namespace: str, name: str) -> Body:
        """The DistillationJob as it is now (a quorum read). NotFound."""

    async def get_budget(self, namespace: str, name: str) -> Body:
        """The TeacherBudget as it is now. NotFound."""

    async def children(self, namespace: str, name: str, uid: str, named: Collection[str] | None = None) -> Children:
        """Live: Jobs labelled distillery.dev/job=<name>, or those of the given names that are there, as far as their controller has this
        uid; and Pods labelled distillery.dev/uid=<uid>. (To read one by its name costs an API server the same however many there are.)"""

    async def get_child(self, kind: str, namespace: str, name: str) -> Body:
        """A ConfigMap or Job by name, whoever owns it. NotFound."""

    async def create_config_map(self, body: Body) -> Body:
        """Create. AlreadyExists, Invalid, NotFound (the namespace)."""

    async def create_job(self, body: Body) -> Body:
        """Create a batch/v1 Job. AlreadyExists, Invalid, NotFound (the namespace)."""

    async def delete_job(self, namespace: str, name: str, uid: str) -> None:
        """Delete the batch/v1 Job of this uid, in the foreground: it stays until its pods are gone. NotFound, Conflict (another uid)."""

    async def patch_status(self, namespace: str, name: str, resource_version: str, status: Body) -> Body:
        """Merge-patch the status of a DistillationJob of this resourceVersion; None removes a field. Conflict, NotFound, Invalid."""

    async def patch_budget_status(self, namespace: str, name: str, resource_version: str, status: Body) -> Body:
        """Likewise the status of a TeacherBudget. Conflict, NotFound, Invalid."""

    async def delete_distillation_job(self, namespace: str, name: str, uid: str) -> None:
        """Delete the DistillationJob of this uid (ttlSecondsAfterFinished); its children are collected. NotFound, Conflict."""

    async def create_event(self, body: Body) -> None:
        """Create an events.k8s.io/v1 Event; one of the same name means that it was told already. Invalid, NotFound."""

    async def warnings_of(self, namespace: str, uid: str) -> list[Body]:
        """The Events of type Warning about one object (core/v1 form: reason, message, lastTimestamp), to explain why it waits; of the last
        seconds they may lack some."""

    def list_jobs(self, namespace: str | None = None) -> AsyncIterator[Body]:
        """Every DistillationJob of a namespace, or of all that are watched, page by page."""

    def list_budgets(self) -> AsyncIterator[Body]:
        """Every TeacherBudget of the watched namespaces, page by page, for the resync."""

"""The `Cluster` of a real API server, and what the Lease and the gateway read and write there."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Collection, Sequence

from distillery.api.base import API_VERSION
from distillery.body import controller
from distillery.settings import JOB_LABEL, UID_LABEL

from . import AlreadyExists, Body, Children, NotFound
from .events import Warnings
from .session import Session, every, path

CORE, BATCH, EVENTS, LEASES = "api/v1", "apis/batch/v1", "apis/events.k8s.io/v1", "apis/coordination.k8s.io/v1"
OURS = f"apis/{API_VERSION}"
JOBS, BUDGETS = "distillationjobs", "teacherbudgets"
_KINDS = {"ConfigMap": (CORE, "configmaps"), "Job": (BATCH, "jobs")}


class ApiServer:
    """Answers the `Cluster` protocol. `guard` is called before every write of reconcile and raises LeadershipLost; `wrote` hears what the
    server made of those that come back as watch events."""

    def __init__(
        self,
        session: Session,
        namespaces: Sequence[str] = (),
        guard: Callable[[], None] = lambda: None,
        wrote: Callable[[Body], None] = lambda body: None,
    ) -> None:
        self._session = session
        self._namespaces = namespaces or (None,)
        self._guard, self._wrote = guard, wrote
        self._warnings = Warnings(session)

    async def get_job(self, namespace: str, name: str) -> Body:
        """The DistillationJob as it is now."""
        return await self._session.get(path(OURS, namespace, JOBS, name))

    async def get_budget(self, namespace: str, name: str) -> Body:
        """The TeacherBudget as it is now."""
        return await self._session.get(path(OURS, namespace, BUDGETS, name))

    async def children(self, namespace: str, name: str, uid: str, named: Collection[str] | None = None) -> Children:
        """Its Jobs and Pods, at once; what is read is from the store, not from a cache."""
        jobs, pods = await asyncio.gather(
            self._labelled(namespace, name) if named is None else self._named(namespace, named),
            self._session.get(path(CORE, namespace, "pods"), labelSelector=f"{JOB_LABEL}={name},{UID_LABEL}={uid}"),
        )
        return Children(jobs=[job for job in jobs if (controller(job) or {}).get("uid") == uid], pods=pods["items"])

    async def get_child(self, kind: str, namespace: str, name: str) -> Body:
        """A ConfigMap or Job by name."""
        prefix, plural = _KINDS[kind]
        return await self._session.get(path(prefix, namespace, plural, name))

    async def create_config_map(self, body: Body) -> Body:
        """Create a ConfigMap."""
        self._guard()
        return await self._session.create(path(CORE, body["metadata"]["namespace"], "configmaps"), body)

    async def create_job(self, body: Body) -> Body:
        """Create a batch/v1 Job."""
        self._guard()
        found = await self._session.create(path(BATCH, body["metadata"]["namespace"], "jobs"), body)
        self._wrote(found)
        return found

    async def delete_job(self, namespace: str, name: str, uid: str) -> None:
        """Delete a batch/v1 Job in the foreground."""
        self._guard()
        await self._session.delete(path(BATCH, namespace, "jobs", name), uid, "Foreground")

    async def patch_status(self, namespace: str, name: str, resource_version: str, status: Body) -> Body:
        """Merge-patch the status at a resourceVersion."""
        found = await self._patch_status(JOBS, namespace, name, resource_version, status)
        self._wrote(found)
        return found

    async def patch_budget_status(self, namespace: str, name: str, resource_version: str, status: Body) -> Body:
        """Merge-patch the status of a TeacherBudget."""
        return await self._patch_status(BUDGETS, namespace, name, resource_version, status)

    async def delete_distillation_job(self, namespace: str, name: str, uid: str) -> None:
        """Delete a DistillationJob; the garbage collector does the rest."""
        self._guard()
        await self._session.delete(path(OURS, namespace, JOBS, name), uid, "Background")

    async def create_event(self, body: Body) -> None:
        """Create an Event; that it is there already means that it was told."""
        self._guard()
        try:
            await self._session.create(path(EVENTS, body["metadata"]["namespace"], "events"), body)
        except AlreadyExists:
            return

    async def warnings_of(self, namespace: str, uid: str) -> list[Body]:
        """The Warnings about an object, as of some seconds ago."""
        return await self._warnings.about(namespace, uid)

    async def list_jobs(self, namespace: str | None = None) -> AsyncIterator[Body]:
        """Every DistillationJob of a namespace, or of all that are watched."""
        async for found in self._every(JOBS, (namespace,) if namespace else self._namespaces):
            yield found

    async def list_budgets(self) -> AsyncIterator[Body]:
        """Every TeacherBudget of the watched namespaces."""
        async for found in self._every(BUDGETS, self._namespaces):
            yield found

    async def serves_our_kinds(self) -> bool:
        """Whether the CRDs are installed in the version that this program speaks."""
        try:
            found = await self._session.get(f"/{OURS}")
        except NotFound:
            return False
        return {JOBS, BUDGETS} <= {resource["name"] for resource in found["resources"]}

    async def get_lease(self, namespace: str, name: str) -> Body:
        """A Lease by name."""
        return await self._session.get(path(LEASES, namespace, "leases", name))

    async def create_lease(self, body: Body) -> Body:
        """Create a Lease."""
        return await self._session.create(path(LEASES, body["metadata"]["namespace"], "leases"), body)

    async def replace_lease(self, body: Body) -> Body:
        """Replace a Lease at the body's resourceVersion."""
        return await self._session.replace(path(LEASES, body["metadata"]["namespace"], "leases", body["metadata"]["name"]), body)

    async def get_pod(self, namespace: str, name: str) -> Body:
        """A Pod by name."""
        return await self._session.get(path(CORE, namespace, "pods", name))

    async def review_token(self, token: str, audience: str) -> Body:
        """The status of a TokenReview: who holds this token, and whether it is for this audience."""
        body = {
            "apiVersion": "authentication.k8s.io/v1",
            "kind": "TokenReview",
            "spec": {"token": token, "audiences": [audience]},
        }
        reviewed = await self._session.create("/apis/authentication.k8s.io/v1/tokenreviews", body)
        status: Body = reviewed["status"]
        return status

    async def _labelled(self, namespace: str, name: str) -> list[Body]:
        found = await self._session.get(path(BATCH, namespace, "jobs"), labelSelector=f"{JOB_LABEL}={name}")
        items: list[Body] = found["items"]
        return items

    async def _named(self, namespace: str, names: Collection[str]) -> list[Body]:
        found = await asyncio.gather(*(self._if_there(namespace, name) for name in names))
        return [job for job in found if job is not None]

    async def _if_there(self, namespace: str, name: str) -> Body | None:
        try:
            return await self.get_child("Job", namespace, name)
        except NotFound:
            return None

    async def _patch_status(self, plural: str, namespace: str, name: str, resource_version: str, status: Body) -> Body:
        self._guard()
        body = {"metadata": {"resourceVersion": resource_version}, "status": status}
        return await self._session.merge_patch(path(OURS, namespace, plural, name, "status"), body)

    async def _every(self, plural: str, namespaces: Sequence[str | None]) -> AsyncIterator[Body]:
        for namespace in namespaces:
            async for body in every(self._session, path(OURS, namespace, plural)):
                yield body

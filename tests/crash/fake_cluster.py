"""An API server in memory: what the `Cluster` protocol promises, with the behaviour of a real one. tests/contract holds the two together.

It has uids, resourceVersions, 409s, generations, deletion in the foreground and the garbage collector. It can die at a call (`Killed`),
answer reads with what stood before the last write (`lag`), refuse what a test wants refused (`refuse`), and wait before a call (`pause`).
What a watch would tell goes to `heard`; what the operator's own writes that come back returned, to `wrote`.
"""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Collection
from datetime import datetime
from typing import Any

from distillery.api.crd import NOT_OBSERVED
from distillery.cluster import AlreadyExists, Body, Children, ClusterError, Conflict, NotFound
from distillery.settings import JOB_LABEL, UID_LABEL
from distillery.timestamps import stamp

Reference = tuple[str, str, str]
Store = dict[Reference, Body]


class Killed(BaseException):
    """The operator's process ends here."""


class FakeCluster:
    """Objects by (kind, namespace, name). Bodies are replaced, never changed in place (a test holds the operator to it), so that
    reads hand them out as they are and a snapshot is a copy of the dict."""

    def __init__(self, clock: Callable[[], datetime]) -> None:
        self.clock = clock
        self.objects: Store = {}
        self.before: Store = {}
        self.calls: list[str] = []
        self.kill_at: int | None = None
        self.kill_after_effect = False
        self.lag: Callable[[], bool] = lambda: False
        self.refuse: Callable[[Body], ClusterError | None] = lambda body: None
        self.created = Counter[Reference]()
        self.pause: Callable[[], Awaitable[None]] | None = None
        self.versions = 0
        self.wrote: Callable[[Body], None] = lambda body: None
        self.heard: Callable[[str, Body], None] = lambda kind, body: None

    # -- the protocol

    async def get_job(self, namespace: str, name: str) -> Body:
        return await self.call("get_job", lambda: self._read("DistillationJob", namespace, name))

    async def get_budget(self, namespace: str, name: str) -> Body:
        return await self.call("get_budget", lambda: self._read("TeacherBudget", namespace, name))

    async def children(self, namespace: str, name: str, uid: str, named: Collection[str] | None = None) -> Children:
        def listed() -> Children:
            seen = self.before if self.lag() else self.objects
            here = {called: b for (kind, ns, called), b in seen.items() if (kind, ns) == ("Job", namespace)}
            jobs = [b for called, b in here.items() if (_label(b, JOB_LABEL) == name if named is None else called in named)]
            pods = [b for (kind, ns, _), b in seen.items() if (kind, ns) == ("Pod", namespace) and _label(b, UID_LABEL) == uid]
            return Children([job for job in jobs if controller_uid(job) == uid], pods)

        return await self.call("children", listed)

    async def get_child(self, kind: str, namespace: str, name: str) -> Body:
        return await self.call("get_child", lambda: self._read(kind, namespace, name))

    async def create_config_map(self, body: Body) -> Body:
        return await self.call("create_config_map", lambda: self.create(body))

    async def create_job(self, body: Body) -> Body:
        return self._answered(await self.call("create_job", lambda: self.create(body)))

    async def delete_job(self, namespace: str, name: str, uid: str) -> None:
        await self.call("delete_job", lambda: self.delete("Job", namespace, name, uid))

    async def patch_status(self, namespace: str, name: str, resource_version: str, status: Body) -> Body:
        patched = await self.call("patch_status", lambda: self._patched("DistillationJob", namespace, name, resource_version, status))
        return self._answered(patched)

    async def patch_budget_status(self, namespace: str, name: str, resource_version: str, status: Body) -> Body:
        return await self.call("patch_budget_status", lambda: self._patched("TeacherBudget", namespace, name, resource_version, status))

    async def delete_distillation_job(self, namespace: str, name: str, uid: str) -> None:
        await self.call("delete_distillation_job", lambda: self.delete("DistillationJob", namespace, name, uid))

    async def create_event(self, body: Body) -> None:
        def told() -> None:
            if ("Event", body["metadata"]["namespace"], body["metadata"]["name"]) not in self.objects:
                self.create(body)

        await self.call("create_event", told)

    async def warnings_of(self, namespace: str, uid: str) -> list[Body]:
        found = [b for (kind, ns, _), b in self.objects.items() if (kind, ns) == ("CoreEvent", namespace)]
        return await self.call("warnings_of", lambda: [b for b in found if (b["type"], b["involvedObject"]["uid"]) == ("Warning", uid)])

    async def list_jobs(self, namespace: str | None = None) -> AsyncIterator[Body]:
        for (kind, where, _), body in list(self.objects.items()):
            if kind == "DistillationJob" and namespace in (None, where):
                yield body

    async def list_budgets(self) -> AsyncIterator[Body]:
        for (kind, _, _), body in list(self.objects.items()):
            if kind == "TeacherBudget":
                yield body

    # -- the server behind it, for tests

    def get(self, kind: str, namespace: str, name: str) -> Body:
        """The object as it is; NotFound."""
        try:
            return self.objects[kind, namespace, name]
        except KeyError:
            raise NotFound(f'{kind} "{name}" not found') from None

    def create(self, body: Body) -> Body:
        """Store a new object with uid, times and versions; AlreadyExists."""
        reference = _reference(body)
        if (refusal := self.refuse(body)) is not None:
            raise refusal
        if reference in self.objects:
            raise AlreadyExists(f'{reference[0]} "{reference[2]}" already exists')
        self.created[reference] += 1
        fresh = {"uid": f"uid-{self.versions + 1}", "creationTimestamp": stamp(self.clock()), "generation": 1}
        ours = {"status": dict(NOT_OBSERVED)} if reference[0] in ("DistillationJob", "TeacherBudget") else {}
        return self.put({**copy.deepcopy(body), **ours, "metadata": {**body["metadata"], **fresh}})

    def put(self, body: Body) -> Body:
        """Store a version of an object; a changed spec is a new generation."""
        reference = _reference(body)
        old = self.objects.get(reference)
        self.versions += 1
        meta = {**body["metadata"], "resourceVersion": str(self.versions)}
        if old is not None and old.get("spec") != body.get("spec"):
            meta["generation"] = old["metadata"]["generation"] + 1
        self.before = dict(self.objects)
        self.objects[reference] = {**body, "metadata": meta}
        self.heard("MODIFIED" if old else "ADDED", self.objects[reference])
        return self.objects[reference]

    def delete(self, kind: str, namespace: str, name: str, uid: str) -> None:
        """In the foreground: a Job with live pods stays until they are gone. What it owned is collected."""
        body = self.get(kind, namespace, name)
        if body["metadata"]["uid"] != uid:
            raise Conflict(f"the UID in the precondition ({uid}) does not match the UID in record ({body['metadata']['uid']})")
        self._mark(body)
        for owned in self.owned_by(uid):
            self.delete(owned["kind"], namespace, owned["metadata"]["name"], owned["metadata"]["uid"])
        if kind != "Pod" or body["status"]["phase"] in ("Succeeded", "Failed"):
            self.collect(kind, namespace, name)

    def collect(self, kind: str, namespace: str, name: str) -> None:
        """Remove an object that is being deleted, if nothing that it owns is left; then, likewise, its owner."""
        body = self.objects.get((kind, namespace, name))
        if body is None or "deletionTimestamp" not in body["metadata"]:
            return
        if kind == "Job" and self.owned_by(body["metadata"]["uid"]):
            return
        self.before = dict(self.objects)
        del self.objects[kind, namespace, name]
        self.heard("DELETED", body)
        for owner in [b for b in self.objects.values() if b["metadata"].get("uid") == controller_uid(body)]:
            self.collect(owner["kind"], namespace, owner["metadata"]["name"])

    def owned_by(self, uid: str) -> list[Body]:
        """The objects whose controller has this uid."""
        return [body for body in self.objects.values() if controller_uid(body) == uid]

    def _patched(self, kind: str, namespace: str, name: str, resource_version: str, status: Body) -> Body:
        old = self.get(kind, namespace, name)
        if old["metadata"]["resourceVersion"] != resource_version:
            raise Conflict("the object has been modified; please apply your changes to the latest version and try again")
        return self.put({**old, "status": merged(old.get("status", {}), status)})

    def _answered(self, body: Body) -> Body:
        self.wrote(body)
        return body

    def _mark(self, body: Body) -> None:
        if "deletionTimestamp" not in body["metadata"]:
            self.put({**body, "metadata": {**body["metadata"], "deletionTimestamp": stamp(self.clock())}})

    def _read(self, kind: str, namespace: str, name: str) -> Body:
        seen = self.before if self.lag() else self.objects
        if (kind, namespace, name) not in seen:
            raise NotFound(f'{kind} "{name}" not found')
        return seen[kind, namespace, name]

    async def call(self, name: str, effect: Callable[[], Any]) -> Any:
        """One call of the operator to the world outside; it may be its last."""
        if self.pause is not None:
            await self.pause()
        self.calls.append(name)
        dies = self.kill_at is not None and len(self.calls) == self.kill_at
        if dies and not self.kill_after_effect:
            raise Killed(name)
        result = effect()
        if dies:
            raise Killed(name)
        return result


def controller_uid(body: Body) -> str | None:
    """The uid of an object's controller."""
    return next((owner["uid"] for owner in body["metadata"].get("ownerReferences", ()) if owner.get("controller")), None)


def merged(old: Body, patch: Body) -> Body:
    """RFC 7396."""
    out = {name: value for name, value in old.items() if name not in patch or patch[name] is not None}
    for name, value in patch.items():
        if isinstance(value, dict):
            out[name] = merged(old.get(name) or {}, value)
        elif value is not None:
            out[name] = value
    return out


def _label(body: Body, name: str) -> str | None:
    labels: dict[str, str] = body["metadata"].get("labels", {})
    return labels.get(name)


def _reference(body: Body) -> Reference:
    return body["kind"], body["metadata"]["namespace"], body["metadata"]["name"]

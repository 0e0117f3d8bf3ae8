"""A cluster that runs a job in virtual time: the Job controller, the kubelet and the trainer image, as far as the operator sees them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from tests.crash.ends import End, Script
from tests.crash.fake_cluster import FakeCluster, Killed, Reference, Store, controller_uid
from tests.crash.fake_gateway import RESERVATION, FakeGateway
from tests.crash.specs import DIGESTS, MINIMAL, OUTPUT, TERMS

from distillery.api.hashes import stage_hashes
from distillery.api.job import DistillationJobSpec
from distillery.api.measure import MetricValue
from distillery.api.result import StageResult
from distillery.cluster import Body, Conflict, Key
from distillery.reconcile import reconcile
from distillery.runs import HASH_ANNOTATION, RUN_ANNOTATION
from distillery.settings import STAGE_LABEL, Settings
from distillery.timestamps import stamp

KEY = Key("team-a", "tiny")
SHARD_LABEL = "batch.kubernetes.io/job-completion-index"
#: Of one world: a path takes some thirty; an endless one must fail and not fill the memory.
MOST_PASSES = 500


@dataclass(frozen=True)
class UserAct:
    """Something that a user does once the moment has come."""

    when: Callable[[World], bool]
    act: Callable[[World], None]


@dataclass(frozen=True)
class Snapshot:
    """A state of a world."""

    objects: Store
    versions: int
    now: datetime
    user: tuple[UserAct, ...]
    admits: bool
    before: Store = field(compare=False)
    created: Counter[Reference] = field(compare=False)


@dataclass
class World:
    """One job in one cluster. Time moves only when everything waits for it."""

    spec: Body = field(default_factory=lambda: dict(MINIMAL))
    script: Script = lambda stage, run: End()
    settings: Settings = field(default_factory=lambda: Settings(trainer_image="trainer:1", gateway_url="http://gateway"))
    now: datetime = datetime(2026, 1, 1, 12, 0, 0, tzinfo=UTC)
    gateway: FakeGateway = field(init=False)
    admits: bool = True
    user: list[UserAct] = field(default_factory=list)
    passes: int = 0
    reused: tuple[str, ...] = ()
    budget: Body | None = None

    def __post_init__(self) -> None:
        self.cluster = FakeCluster(lambda: self.now)
        self.gateway = FakeGateway(self.cluster)
        meta = {"name": KEY.name, "namespace": KEY.namespace}
        self.cluster.create({"apiVersion": "distillery.dev/v1alpha1", "kind": "DistillationJob", "metadata": meta, "spec": self.spec})
        if self.budget is not None:
            self.grant(self.budget)

    # -- what the user sees and does

    @property
    def job(self) -> Body:
        return self.cluster.get("DistillationJob", *KEY)

    @property
    def status(self) -> Body:
        found: Body = self.job.get("status", {})
        return found

    def condition(self, kind: str) -> tuple[str, str]:
        """Status and reason."""
        return next(((c["status"], c["reason"]) for c in self.status.get("conditions", ()) if c["type"] == kind), ("", ""))

    def stage(self, name: str) -> Body:
        return next((stage for stage in self.status.get("stages", ()) if stage["name"] == name), {})

    def reserved(self) -> bool:
        """Whether money is set aside for the job."""
        return any(kind == RESERVATION for kind, _, _ in self.cluster.objects)

    def edit(self, **change: Any) -> None:
        """kubectl edit: fields of the spec; None removes one."""
        spec = {k: v for k, v in {**self.job["spec"], **change}.items() if v is not None}
        self.cluster.put({**self.job, "spec": spec})

    def grant(self, budget: Body) -> None:
        """kubectl apply of the platform team."""
        found = self.cluster.objects.get(("TeacherBudget", KEY.namespace, "team"))
        meta = {"name": "team", "namespace": KEY.namespace}
        if found is None:
            self.cluster.create({"kind": "TeacherBudget", "metadata": meta, "spec": budget})
        else:
            self.cluster.put({**found, "spec": budget})

    # -- the operator

    async def reconcile(self) -> float | None:
        self.passes += 1
        return await reconcile(KEY, self.cluster, self.gateway, lambda: self.now, self.settings, TERMS)

    async def settle(self) -> float | None:
        """Reconcile until nothing more is to be done at this moment."""
        for _ in range(50):
            if (after := await self.reconcile()) != 0:
                return after
        raise AssertionError(f"asks for another pass without end: {self.status}")

    async def tick(self) -> bool:
        """One pass of the operator; if it has nothing more to do now, the user acts, else the cluster moves, else time passes.

        Dying is survived, as is a conflict: the next pass is a new process. False once the job has ended and nothing is left to do.
        """
        if self.passes > MOST_PASSES:
            raise AssertionError(f"not done after {self.passes} passes: {self.status}")
        try:
            after = await self.reconcile()
        except (Killed, Conflict):
            return True
        if after == 0:
            return True
        if self.user and self.user[0].when(self):
            self.user.pop(0).act(self)
        elif not self.step():
            if self.ended() and after is None:
                return False
            self.now += timedelta(seconds=30 if after is None else max(after, 1))
        return True

    async def run(self, until: Callable[[], bool] | None = None, hours: float = 24) -> None:
        """Tick until all is over, or `until` holds."""
        end = self.now + timedelta(hours=hours)
        while not (until and until()) and await self.tick():
            if self.now > end:
                raise AssertionError(f"not done after {hours} h: {self.status}")

    def ended(self) -> bool:
        """Whether the job has ended, or is gone."""
        gone = ("DistillationJob", *KEY) not in self.cluster.objects
        return gone or self.condition("Succeeded")[0] in ("True", "False")

    # -- time travel

    def snapshot(self) -> Snapshot:
        """All that decides what comes next."""
        server = self.cluster
        return Snapshot(
            dict(server.objects), server.versions, self.now, tuple(self.user), self.admits, dict(server.before), Counter(server.created)
        )

    def restore(self, snapshot: Snapshot) -> None:
        """Go on from there, with a new operator."""
        self.cluster.objects, self.cluster.before = dict(snapshot.objects), dict(snapshot.before)
        self.cluster.created = Counter(snapshot.created)
        self.cluster.versions, self.now, self.user = snapshot.versions, snapshot.now, list(snapshot.user)
        self.cluster.calls, self.cluster.kill_at = [], None
        self.admits = snapshot.admits

    # -- the Job controller and the kubelet

    def step(self) -> bool:
        """Every Job and pod moves on by one; False if nothing moved."""
        before = self.cluster.objects.copy()
        for body in [b for b in before.values() if b["kind"] == "Job"]:
            self._step_job(body)
        return before != self.cluster.objects

    def jobs(self) -> list[Body]:
        return [body for body in self.cluster.objects.values() if body["kind"] == "Job"]

    def pods(self, job: Body) -> list[Body]:
        return [body for body in self.cluster.objects.values() if body["kind"] == "Pod" and controller_uid(body) == job["metadata"]["uid"]]

    def _step_job(self, job: Body) -> None:
        if any(c["type"] in ("Complete", "Failed") for c in job.get("status", {}).get("conditions", ())):
            return
        live = [pod for pod in self.pods(job) if pod["status"]["phase"] not in ("Succeeded", "Failed")]
        if "deletionTimestamp" in job["metadata"]:
            for pod in live:
                self.end_pod(job, pod, End(143))
            return
        if job["spec"].get("suspend"):
            if self.admits:
                self.cluster.put({**job, "spec": {**job["spec"], "suspend": False}, "status": {"startTime": stamp(self.now)}})
            return
        if self.missing(job):
            self.start_pod(job)
            return
        end = self.script(job["metadata"]["labels"][STAGE_LABEL], int(job["metadata"]["annotations"][RUN_ANNOTATION]))
        if end is not None:
            self.end_pod(job, live[0], end)

    def missing(self, job: Body) -> list[int]:
        """The shards of a Job that have no pod that lives or has gone well."""
        there = {shard_of(pod) for pod in self.pods(job) if pod["status"]["phase"] != "Failed"}
        return [shard for shard in range(job["spec"].get("completions", 1)) if shard not in there]

    def start_pod(self, job: Body, state: Body | None = None) -> Body:
        """A pod of the Job, running unless its container's state says otherwise."""
        template, number = job["spec"]["template"], len(self.pods(job))
        body = {
            "kind": "Pod",
            "metadata": {
                "name": f"{job['metadata']['name']}-{number}",
                "namespace": KEY.namespace,
                "labels": template["metadata"]["labels"] | {SHARD_LABEL: str(next(iter(self.missing(job)), 0))},
                "ownerReferences": [{"kind": "Job", "uid": job["metadata"]["uid"], "controller": True}],
            },
            "status": {
                "phase": "Pending" if state else "Running",
                "containerStatuses": [{"name": "stage", "state": state or {"running": {}}}],
            },
        }
        made = self.cluster.create(body)
        self.count(job)
        return made

    def count(self, job: Body) -> None:
        """The Job controller's counters of a Job, which are all that the operator hears of its pods."""
        found = self.cluster.objects.get(("Job", KEY.namespace, job["metadata"]["name"]))
        if found is None:
            return
        phases = Counter(pod["status"]["phase"] for pod in self.pods(job))
        counted = {
            "active": phases["Pending"] + phases["Running"],
            "ready": phases["Running"],
            "succeeded": phases["Succeeded"],
            "failed": phases["Failed"],
        }
        status = found.get("status", {})
        if status != status | counted:
            self.cluster.put({**found, "status": status | counted})

    def end_pod(self, job: Body, pod: Body, end: End) -> None:
        """The pod ends; its Job completes, fails or, by its podFailurePolicy, is left to replace it."""
        text = end.text if end.text is not None else (self.result(job).trimmed().decode() if end.code == 0 else "")
        terminated = {"exitCode": end.code, "reason": end.reason, "message": text, "finishedAt": stamp(self.now)}
        status: Body = {
            "phase": "Succeeded" if end.code == 0 else "Failed",
            "containerStatuses": [{"name": "stage", "state": {"terminated": terminated}}],
        }
        if end.disrupted:
            status["conditions"] = [{"type": "DisruptionTarget", "status": "True", "reason": "PreemptionByScheduler"}]
        self.cluster.put({**pod, "status": status})
        if "deletionTimestamp" in pod["metadata"] or end.lost:
            if end.lost:
                self.cluster.delete("Pod", KEY.namespace, pod["metadata"]["name"], pod["metadata"]["uid"])
            self.cluster.collect("Pod", KEY.namespace, pod["metadata"]["name"])
        self.count(job)
        if "deletionTimestamp" in job["metadata"] or end.disrupted or end.code == 143:
            return
        live = [other for other in self.pods(job) if other["status"]["phase"] == "Running"]
        if end.code != 0:
            for other in live:
                self.end_pod(job, other, End(143))
            self.finish(job, "Failed")
        elif not live and not self.missing(job):
            self.finish(job, "Complete")

    def finish(self, job: Body, kind: str) -> None:
        condition = {"type": kind, "status": "True", "lastTransitionTime": stamp(self.now)}
        found = self.cluster.get("Job", KEY.namespace, job["metadata"]["name"])
        self.cluster.put({**found, "status": {**found.get("status", {}), "conditions": [condition]}})

    def vanish(self, job: Body) -> None:
        """Someone removes the Job with its pods, at once."""
        for body in (*self.pods(job), job):
            self.cluster.objects.pop((body["kind"], KEY.namespace, body["metadata"]["name"]), None)
        self.cluster.before = dict(self.cluster.objects)

    # -- the trainer image

    def result(self, job: Body) -> StageResult:
        """What a stage says that goes well."""
        stage = job["metadata"]["labels"][STAGE_LABEL]
        if len([pod for pod in self.pods(job) if pod["status"]["phase"] == "Succeeded"]) + 1 < job["spec"].get("completions", 1):
            return StageResult(message="this shard is done")
        found = StageResult(message=f"{stage} is done", manifest=f"{OUTPUT}/stages/{stage}/manifest.json")
        if stage == "preflight":
            hashes = stage_hashes(DistillationJobSpec.model_validate(self.job["spec"]), DIGESTS, self.job["metadata"]["uid"])
            counted = [MetricValue(name="requests", value="20"), MetricValue(name="longestPromptBytes", value="900")]
            return found.model_copy(update={"hashes": hashes, "reused": list(self.reused), "metrics": counted})
        if stage == "publish":
            return found.model_copy(
                update={"model_uri": f"{OUTPUT}/team-a/tiny/model", "report_uri": f"{OUTPUT}/team-a/tiny/manifest.json"}
            )
        return found

    def created_runs(self) -> list[tuple[str, str, str]]:
        """(stage, hash, run) of every Job that is there."""
        meta = [job["metadata"] for job in self.jobs()]
        return [(m["labels"][STAGE_LABEL], m["annotations"][HASH_ANNOTATION], m["annotations"][RUN_ANNOTATION]) for m in meta]


def shard_of(pod: Body) -> int:
    """Which shard a pod works on."""
    return int(pod["metadata"]["labels"][SHARD_LABEL])

"""Ways that a job can take, each a world that takes it by itself. R1 dies at every call of each, R2 to R6 measure them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from tests.crash.ends import End, Script
from tests.crash.specs import BUDGET, ENDPOINT, EXPORTS, MINIMAL
from tests.crash.world import UserAct, World

from distillery.api.measure import Artifact
from distillery.api.result import StageResult
from distillery.cluster import Body, ClusterError, Forbidden, Invalid

QUEUED: Body = MINIMAL | {"scheduling": {"queueName": "gpus"}}


def only(stage: str, end: End | None, *runs: int) -> Script:
    """All stages go well, except for these runs of one."""
    return lambda name, run: end if name == stage and run in runs else End()


def mistake(reason: str, message: str) -> End:
    """Exit 64 with what the stage says."""
    return End(64, StageResult(reason=reason, message=message).trimmed().decode(), reason="Error")


def running(stage: str) -> Callable[[World], bool]:
    """When the stage has a Job."""
    return lambda world: world.stage(stage).get("state") == "Running"


def suspended(world: World) -> bool:
    """When no pod is left."""
    return world.condition("Suspended")[0] == "True"


def edits(when: Callable[[World], bool], **change: object) -> UserAct:
    """kubectl edit at that moment."""
    return UserAct(when, lambda world: world.edit(**change))


def with_refusal(world: World, error: ClusterError, times: int, kind: str = "Job") -> World:
    """The API server refuses that kind at first: so many times, or, to be the same after a crash, until so many passes of time."""
    start = world.now
    world.cluster.refuse = lambda body: error if body["kind"] == kind and (world.now - start).total_seconds() < 30 * times else None
    return world


def vanishing() -> World:
    world = World(script=only("train", None, 1))
    world.user = [UserAct(running("train"), lambda w: w.vanish(next(job for job in w.jobs() if "-train-" in job["metadata"]["name"])))]
    return world


def reusing() -> World:
    return World(spec=MINIMAL | EXPORTS, reused=("traces", "curate", "train", "evaluate"))


def withheld() -> World:
    artifact = Artifact(name="q4", format="gguf", quantization="q4_0", passed=False, message="agreement 0.71 is below 0.9")
    text = StageResult(message="made", artifact=artifact).trimmed().decode()
    return World(spec=MINIMAL | EXPORTS, script=lambda stage, run: End(0, text) if stage == "export-q4" else End())


def resumed(**change: object) -> World:
    """Suspended in training, perhaps edited, and resumed."""
    world = World(script=only("train", None, 1))
    world.user = [edits(running("train"), suspend=True)]
    world.user += [edits(suspended, **change)] if change else []
    world.user += [edits(suspended, suspend=False)]
    return world


def queued() -> World:
    """Kueue admits when a user asks it to."""
    world = World(spec=QUEUED, admits=False)
    world.user = [UserAct(lambda w: w.stage("preflight").get("reason") == "WaitingForQuota", lambda w: setattr(w, "admits", True))]
    return world


def buying(script: Script = lambda stage, run: End(), **change: Any) -> World:
    """A job whose teacher is behind an API, with a budget."""
    return World(spec=ENDPOINT | change, script=script, budget=BUDGET)


def starved(refusals: int = 3) -> World:
    """The budget is exhausted midway, and has money again after a while."""
    out = StageResult(reason="BudgetExhausted", message="daily is used up; resumes 2026-01-02T00:00:00Z").trimmed().decode()
    world = buying(only("traces", End(76, out, reason="Error"), 1))
    start = world.now
    world.gateway.grants = lambda: not failed_pods(world) or (world.now - start).total_seconds() > 40 * refusals
    return world


def preempted() -> World:
    """A shard's pod, once."""
    world = buying()
    world.script = lambda stage, run: End(137, disrupted=True) if stage == "traces" and not failed_pods(world) else End()
    return world


def failed_pods(world: World) -> list[Body]:
    """Pods that have not gone well."""
    return [body for body in world.cluster.objects.values() if body["kind"] == "Pod" and body["status"]["phase"] == "Failed"]


def silent() -> World:
    """The gateway comes up a minute after the job."""
    world = buying()
    start = world.now
    world.gateway.answers = lambda: (world.now - start).total_seconds() > 60
    return world


def without_budget() -> World:
    """GitOps applies in any order."""
    world = World(spec=ENDPOINT)
    world.user = [UserAct(lambda w: w.condition("BudgetReserved") == ("False", "BudgetMissing"), lambda w: w.grant(BUDGET))]
    return world


def forbidden() -> World:
    """The terms ask for an approval, which the platform team files."""
    use = {"declaredUse": {"purpose": "commercial", "competes": False}}
    world = buying(governance=use)
    approved = {"service": "ours", "approval": {"reference": "LEGAL-17", "expires": "2026-12-31"}}
    teachers = [BUDGET["teachers"][0] | {"terms": approved}]
    world.user = [
        UserAct(lambda w: w.condition("Validated") == ("False", "ApprovalNeeded"), lambda w: w.grant(BUDGET | {"teachers": teachers}))
    ]
    return world


def bought_and_cancelled() -> World:
    world = buying(only("traces", None, 1))
    world.user = [edits(running("traces"), cancel=True)]
    return world


def bought_and_suspended() -> World:
    world = buying(only("traces", None, 1))
    world.user = [edits(running("traces"), suspend=True), edits(suspended, suspend=False)]
    return world


def another_teacher() -> World:
    """Suspended while it buys, and edited to a teacher that costs nothing."""
    world = buying(only("traces", None, 1))
    model = {"teacher": {"model": {"uri": "hf://org/teacher"}}, "budgetRef": None, "governance": None}
    world.user = [edits(running("traces"), suspend=True), edits(suspended, **model), edits(suspended, suspend=False)]
    return world


PATHS: Mapping[str, Callable[[], World]] = {
    "golden": World,
    "exports": lambda: World(spec=MINIMAL | EXPORTS),
    "withheld artifact": withheld,
    "reused stages": reusing,
    "user's mistake": lambda: World(script=only("train", mistake("TokenizerMismatch", "vocabularies differ: use hardLabel"), 1)),
    "one of two exports fails": lambda: World(
        spec=MINIMAL | EXPORTS,
        script=lambda stage, run: {"export-q4": mistake("Unsupported", "no"), "export-web": None}.get(stage, End()),
    ),
    "store unavailable twice": lambda: World(script=only("traces", End(75, reason="Error"), 1, 2)),
    "crashes until the backoff limit": lambda: World(script=only("curate", End(1, "Traceback: boom", reason="Error"), 1, 2, 3)),
    "out of memory once": lambda: World(script=only("train", End(137, reason="OOMKilled"), 1)),
    "job lost its pod": lambda: World(script=only("train", End(137, lost=True), 1)),
    "result lost": lambda: World(script=only("evaluate", End(0, "not JSON"), 1)),
    "job vanished": vanishing,
    "suspended and resumed": resumed,
    "suspended and edited": lambda: resumed(training={"learningRate": "0.001"}),
    "cancelled": lambda: World(script=only("train", None, 1), user=[edits(running("train"), cancel=True)]),
    "deadline": lambda: World(spec=MINIMAL | {"activeDeadlineSeconds": 90}, script=only("train", None, 1)),
    "quota refuses at first": lambda: with_refusal(World(), Forbidden("jobs.batch is forbidden: exceeded quota: small"), 3),
    "config map refused at first": lambda: with_refusal(World(), Forbidden("exceeded quota: few config maps"), 2, "ConfigMap"),
    "job is invalid": lambda: with_refusal(World(), Invalid("spec.template.spec.affinity: Invalid value"), 99),
    "queued": queued,
    "endpoint": buying,
    "endpoint, traces reused": lambda: World(spec=ENDPOINT, budget=BUDGET, reused=("traces",)),
    "endpoint, a shard is preempted": preempted,
    "endpoint, a shard fails": lambda: buying(only("traces", End(75, reason="Error"), 1)),
    "endpoint, out of budget midway": starved,
    "endpoint, gateway silent": silent,
    "endpoint, budget missing": without_budget,
    "endpoint, approval needed": forbidden,
    "endpoint, cancelled": bought_and_cancelled,
    "endpoint, suspended and resumed": bought_and_suspended,
    "endpoint, edited to open weights": another_teacher,
    "endpoint, deadline": lambda: buying(only("traces", None, 1), activeDeadlineSeconds=90),
    "deleted after its time": lambda: World(spec=MINIMAL | {"ttlSecondsAfterFinished": 100}),
    "invalid, then corrected": lambda: World(
        spec=MINIMAL | {"output": {"uri": "file:///tmp/out"}},
        user=[edits(lambda w: w.condition("Validated") == ("False", "InvalidSpec"), output=MINIMAL["output"])],
    ),
}

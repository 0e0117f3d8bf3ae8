"""Builders of what the pure core takes in: each with what a test does not care about filled in."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

from distillery.api.hashes import stage_hashes
from distillery.api.job import DistillationJobSpec
from distillery.api.measure import MetricValue
from distillery.api.result import StageResult
from distillery.decide import Decision, decide
from distillery.observe import DistillationJob, Observed, job_from
from distillery.plan import Plan, make_plan
from distillery.runs import Pod, Run
from distillery.settings import Settings

Body = dict[str, Any]
NOW = datetime(2026, 1, 1, 12, 0, 0, tzinfo=UTC)
OUTPUT = "s3://models/tiny"
SPEC: Body = {
    "teacher": {"model": {"uri": "hf://org/teacher"}},
    "student": {"model": {"uri": "hf://org/student"}},
    "data": {"train": {"uri": "s3://data/train.jsonl"}},
    "output": {"uri": OUTPUT},
}
ENDPOINT_SPEC: Body = {
    "teacher": {"endpoint": {"teacher": "gpt-x", "shards": 3}},
    "budgetRef": {"name": "team"},
    "governance": {"declaredUse": {"purpose": "internal", "competes": False}},
    "student": {"model": {"uri": "hf://org/student"}},
    "data": {"train": {"uri": "s3://data/train.jsonl"}},
    "output": {"uri": OUTPUT},
}
COUNTED = [MetricValue(name="requests", value="20"), MetricValue(name="longestPromptBytes", value="900")]
EXPORT: Body = {"name": "q4", "format": "gguf", "quantization": "q4_0"}
SETTINGS = Settings(trainer_image="trainer:1")
DIGESTS = {name: name * 4 for name in ("teacher", "traces", "student", "train", "evaluation")}
LATER = timedelta(minutes=10)


def job(spec: Body | None = None, status: Body | None = None, **meta: Any) -> DistillationJob:
    """A DistillationJob as it is read."""
    metadata = {"name": "tiny", "namespace": "team-a", "uid": "uid-1", "resourceVersion": "7", "generation": 1, **meta}
    return job_from({"metadata": metadata, "spec": SPEC if spec is None else spec, **({"status": status} if status else {})})


def plan(subject: DistillationJob, settings: Settings = SETTINGS) -> Plan:
    """Its plan."""
    return make_plan(subject.name, subject.spec, settings)


def pod(phase: str = "Running", **more: Any) -> Pod:
    """A pod of a run."""
    return Pod(**{"name": "pod-1", "uid": "pod-uid-1", "phase": phase, "created": NOW, "running": phase == "Running", **more})


def ended(code: int, text: str = "", **more: Any) -> Pod:
    """A pod that has ended with this exit code."""
    return pod("Succeeded" if code == 0 else "Failed", exit_code=code, text=text, **more)


def says(**fields: Any) -> str:
    """A termination message."""
    return StageResult(**fields).trimmed().decode()


class Story:
    """A job that is led pass by pass: each `act` decides on what was observed and takes the status over, as reconcile would."""

    def __init__(self, spec: Body | None = None, settings: Settings = SETTINGS) -> None:
        self.job, self.settings, self.now = job(spec), settings, NOW
        self.runs: dict[str, Run] = {}
        self.config_map: Body | None = None
        self.observed = Observed()

    def act(self, **observed: Any) -> Decision:
        """One pass, with more observed than runs and ConfigMap."""
        self.observed = Observed(**{"runs": self.runs, "config_map": self.config_map, **observed})
        decision = decide(self.job, plan(self.job, self.settings), self.observed, self.now)
        for body in decision.create:
            if body["kind"] == "ConfigMap":
                self.config_map = body
            else:
                meta = body["metadata"]
                self.runs[meta["name"]] = Run(
                    name=meta["name"],
                    uid=f"uid-{meta['name']}",
                    stage=meta["labels"]["distillery.dev/stage"],
                    hash=meta["annotations"]["distillery.dev/hash"],
                    number=int(meta["annotations"]["distillery.dev/run"]),
                    created=self.now,
                    suspended=body["spec"].get("suspend", False),
                )
        self.job = replace(self.job, status=decision.status)
        return decision

    def settle(self, **observed: Any) -> Decision:
        """Passes until one asks for no other at once."""
        for _ in range(20):
            decision = self.act(**observed)
            if decision.requeue_after != 0:
                return decision
        raise AssertionError("asks for another pass without end")

    def edit(self, **change: Any) -> None:
        """kubectl edit."""
        self.job = replace(self.job, spec={**self.job.spec, **change}, generation=self.job.generation + 1)

    def wait(self, seconds: float) -> None:
        """Time passes."""
        self.now += timedelta(seconds=seconds)

    def run(self, stage: str) -> Run:
        """The last run of a stage."""
        return max((run for run in self.runs.values() if run.stage == stage), key=lambda run: run.number)

    def change(self, stage: str, **fields: Any) -> None:
        """The stage's last batch Job is seen otherwise."""
        run = self.run(stage)
        self.runs[run.name] = replace(run, **fields)

    def finish(self, stage: str, seen: Body | None = None, **result: Any) -> Decision:
        """The stage goes well; leads on until nothing more is to be done, observing `seen` too."""
        if stage == "preflight" and "hashes" not in result:
            spec = DistillationJobSpec.model_validate(dict(self.job.spec))
            result["hashes"] = stage_hashes(spec, DIGESTS, "owner")
            result.setdefault("metrics", COUNTED)
        self.change(stage, finished="Complete", pods=(ended(0, says(**result)),))
        return self.settle(**(seen or {}))

    def fail(self, stage: str, code: int, text: str = "", **more: Any) -> Decision:
        """The stage's pod ends with this code; one pass."""
        self.change(stage, finished="Failed", pods=(ended(code, text, **more),))
        return self.act()

    def reach(self, stage: str) -> None:
        """Lead on until this stage runs."""
        self.settle()
        for planned in plan(self.job).stages:
            if planned.name == stage or (planned.kind == "export" and stage.startswith("export")):
                return
            self.finish(planned.name)

    def condition(self, kind: str) -> tuple[str, str, str]:
        """Status, reason, message."""
        found = next(c for c in self.job.status.conditions if c.type == kind)
        return found.status, found.reason, found.message

    def stage(self, name: str) -> Any:
        """Its status."""
        return next(stage for stage in self.job.status.stages if stage.name == name)

"""The status of a DistillationJob: what happened, what is happening, where the model is."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from .base import Model
from .governance import PolicyVerdict
from .measure import Artifact, EvaluationResult, MetricValue

Time = Annotated[str, Field(max_length=32, json_schema_extra={"format": "date-time"})]
Word = Annotated[str, Field(max_length=63)]
Message = Annotated[str, Field(max_length=2048)]
StageState = Literal["Pending", "Waiting", "Running", "Succeeded", "Reused", "Failed", "Suspended", "Stopped"]


class Condition(Model):
    """As metav1.Condition."""

    type: Word = Field(description="Name of the condition.")
    status: Literal["True", "False", "Unknown"] = Field(description="Unknown until it is decided.")
    reason: Annotated[str, Field(max_length=128)] = Field(description="CamelCase word for programs.")
    message: Message = Field("", description="Sentence for people.")
    last_transition_time: Time = Field(description="When status last changed.")
    observed_generation: int | None = Field(None, description="Generation of the spec that this speaks of.")


class StageProgress(Model):
    """How far a stage is."""

    percentage: int = Field(0, ge=0, le=100, description="0 to 100.")
    estimated_remaining_seconds: int | None = Field(None, description="By the pod's own estimate.")
    done: int | None = Field(None, description="Units done.")
    total: int | None = Field(None, description="Units in all.")
    unit: Annotated[str, Field(max_length=16)] | None = Field(None, description="rows or steps.")
    checkpoint_step: int | None = Field(None, description="Last step whose checkpoint is in the store.")
    observed_time: Time | None = Field(None, description="When this was read; it is read at most twice a minute.")


class StageStatus(Model):
    """One stage."""

    name: Word = Field(description="Name of the stage.")
    state: StageState = Field("Pending", description="Where it stands.")
    attempts: int = Field(0, description="Failures of the stage itself; compared with backoffLimit.")
    runs: int = Field(0, description="Jobs created for it, counting those that were preempted or suspended.")
    hash: Annotated[str, Field(max_length=64)] | None = Field(None, description="sha256 of what it is made of.")
    job_name: Word | None = Field(None, description="The batch Job of the last run.")
    start_time: Time | None = Field(None, description="When its first Job was created.")
    run_start_time: Time | None = Field(None, description="When the Job of the last run was created; absent until it is.")
    completion_time: Time | None = Field(None, description="When it ended.")
    progress: StageProgress | None = Field(None, description="While it runs.")
    metrics: Annotated[list[MetricValue], Field(max_length=32)] = Field(default=[], description="Last values, for example loss.")
    message: Message | None = Field(None, description="What it did, or why it waits or failed, with the remedy.")
    reason: Word | None = Field(None, description="CamelCase word for programs.")
    run_checkpoint_step: int | None = Field(
        None, description="Checkpoint step at the start of the last run: tells whether runs make progress."
    )
    stale_runs: int = Field(0, description="Runs in a row without a newer checkpoint.")


class JobProgress(Model):
    """How far the whole job is."""

    percentage: int = Field(0, ge=0, le=100, description="Part of the stages done, the running ones by their own progress.")
    estimated_remaining_seconds: int | None = Field(None, description="Of the running stage.")


Amount = Annotated[str, Field(max_length=24)]


class TeacherUsage(Model):
    """What a job has asked and paid so far."""

    requests: int = Field(0, description="Requests sent to the teacher.")
    cache_hits: int = Field(0, description="Answers that were there already, or being bought by another request.")
    input_tokens: int = Field(0, description="Of requests that were sent, as billed.")
    output_tokens: int = Field(0, description="Of requests that were sent, as billed.")
    cost: Amount = Field("0.00", description="US dollars paid.")
    reserved_cost: Amount = Field("0.00", description="US dollars held for the job, in doubt included.")
    in_doubt_cost: Amount = Field("0.00", description="US dollars of requests whose outcome is unknown, at worst case.")
    saved_cost: Amount = Field("0.00", description="US dollars that answers from the cache have cost before.")


class CostEstimate(Model):
    """What the whole job will cost, from its own first answers."""

    requests: int = Field(description="Requests in all, cache hits included.")
    sampled: int = Field(description="Answers that the estimate rests on.")
    input_tokens: int = Field(description="In all.")
    output_tokens: int = Field(description="In all.")
    cost: Amount = Field(description="US dollars in all, the mean.")
    low: Amount = Field(description="Lower end of the 95 % interval.")
    high: Amount = Field(description="Upper end of the 95 % interval.")


class DistillationJobStatus(Model):
    """Written by the operator only. Branch on conditions; `phase` is for reading."""

    observed_generation: int | None = Field(None, description="Generation of the spec that was last looked at; -1 before the first look.")
    phase: Word | None = Field(
        None, description="For display only: Pending, the stage that runs, why it waits for a budget, Suspended, Succeeded, Failed."
    )
    start_time: Time | None = Field(None, description="When the first stage was created.")
    completion_time: Time | None = Field(None, description="When the job ended.")
    active_seconds: int = Field(
        0, description="Work so far, without time suspended or waiting for quota or budget; compared with activeDeadlineSeconds."
    )
    active_since: Time | None = Field(None, description="Since when time is counted; absent while it is not.")
    conditions: Annotated[list[Condition], Field(max_length=16)] = Field(
        default=[],
        description="Validated, BudgetReserved, QuotaReserved, TracesReady, Trained, Evaluated, Exported, Published, Suspended, Succeeded, Reconciling, Stalled.",
        json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["type"]},
    )
    progress: JobProgress | None = Field(None, description="Of the whole job.")
    stages: Annotated[list[StageStatus], Field(max_length=41)] = Field(
        default=[], description="In order.", json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"]}
    )
    evaluation: EvaluationResult | None = Field(None, description="Teacher, student and untrained baseline on the held-out rows.")
    artifacts: Annotated[list[Artifact], Field(max_length=8)] = Field(
        default=[], description="The exports.", json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"]}
    )
    teacher_usage: TeacherUsage | None = Field(None, description="What was asked of teacher.endpoint, and paid.")
    estimate: CostEstimate | None = Field(None, description="What teacher.endpoint will cost in all.")
    budget_claimed: bool | None = Field(
        None, description="Whether money may be set aside for the job: noted before it is asked for, removed when the rest is given back."
    )
    policy: PolicyVerdict | None = Field(None, description="What the teacher's terms say about the declared use.")
    model_uri: Annotated[str, Field(max_length=1024)] | None = Field(
        None, alias="modelURI", description="Folder that from_pretrained loads."
    )
    report_uri: Annotated[str, Field(max_length=1024)] | None = Field(
        None, alias="reportURI", description="Manifest with lineage and digests."
    )
    spec_hash: Annotated[str, Field(max_length=64)] | None = Field(None, description="Of the frozen fields of the running spec.")
    config_map: Word | None = Field(None, description="The frozen job that the pods see.")

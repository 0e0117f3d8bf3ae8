"""DistillationJob: the spec, and the object frozen for the pods of one run."""

from __future__ import annotations

from typing import Annotated, ClassVar

from pydantic import Field

from .base import LocalRef, Model, ObjectName, OutputURI
from .data import Data
from .governance import Governance
from .measure import Evaluation, Export
from .method import Method, default_method
from .rules import VALIDATIONS, Rule
from .scheduling import Scheduling
from .schema import ABSENT
from .spec_rules import SPEC_RULES
from .student import Student
from .teacher import Teacher
from .training import Training


class Output(Model):
    """Where stages, checkpoints and results are kept. Jobs with the same output share finished stages."""

    uri: OutputURI = Field(description="s3://bucket/path, pvc://claim/path, or file:// in a local run.")
    credentials_secret_ref: LocalRef | None = Field(
        None, description="Secret with AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and, for other stores than AWS, AWS_ENDPOINT_URL."
    )


#: Everything that decides the result; frozen once the job has started.
FROZEN = ("teacher", "budgetRef", "governance", "student", "data", "method", "training", "evaluation", "exports", "output", "scheduling")
#: May change at any time.
MUTABLE = ("suspend", "cancel", "activeDeadlineSeconds", "ttlSecondsAfterFinished", "backoffLimit")


class DistillationJobSpec(Model):
    """What to distil, from whom, how, and where the result goes. Teacher, student, prompts and output are enough."""

    RULES: ClassVar[tuple[Rule, ...]] = SPEC_RULES
    teacher: Teacher = Field(
        description="Who teaches: exactly one of 'endpoint' (a model behind an API, within a budget), 'model' (open weights; the traces stage loads them"
        " once and keeps their exact signal) or 'traces' (what an earlier job has kept: no teacher is loaded, nothing is bought again)."
        ' Example: {model: {uri: "hf://org/teacher@main"}}.'
    )
    budget_ref: LocalRef | None = Field(
        None, description="TeacherBudget, in the namespace of the job, that pays for teacher.endpoint and names the teachers."
    )
    governance: Governance | None = Field(
        None, description="What the student is for; the terms of teacher.endpoint are judged by it before anything is asked."
    )
    student: Student = Field(
        description="Who learns: exactly one of 'model' (an existing smaller model), 'fromTeacher' (some of the teacher's layers: the quickest start) or"
        " 'scratch' (random weights, the teacher's tokenizer); with 'lora' only adapters are trained. Example: {fromTeacher: {numHiddenLayers: 12}}."
    )
    data: Data = Field(
        default_factory=Data,
        description="Training rows, held-out rows, template, filters. Rows are .jsonl or .parquet; where they hold prompts only, the teacher answers them."
        ' Example: {train: {uri: "s3://team-a/prompts.jsonl", credentialsSecretRef: {name: s3}}}.',
    )
    method: Method = Field(
        # no default in the schema: it depends on the teacher
        default_factory=lambda given: default_method(given["teacher"]) if "teacher" in given else Method(),
        description="The losses and their weights. Default: half forward KL to the teacher at temperature 2, half cross-entropy on the text; for a"
        " teacher.endpoint that gives no log-probabilities cross-entropy alone.",
        json_schema_extra={ABSENT: True},
    )
    training: Training = Field(
        default_factory=Training, description="The optimizer run: steps, batch, learning rate, sequence length, checkpoints."
    )
    evaluation: Evaluation = Field(
        default_factory=Evaluation,
        description="The check of teacher, student and untrained student on held-out rows. A gate that is missed ends the job: nothing is published."
        ' Example: {gates: [{metric: retention, min: "0.95"}]}.',
    )
    exports: Annotated[list[Export], Field(max_length=8)] = Field(
        default=[],
        description="Artifacts for edge targets, made in parallel; each answers the held-out rows in its own runtime and is published only if it"
        " meets its gates. The student in Hugging Face layout is always published. Example: [{name: phone, format: gguf, quantization: q4_0}].",
        json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"]},
    )
    output: Output = Field(
        description="Where stages, checkpoints and results are written. Jobs with the same output reuse each other's finished stages."
        ' Example: {uri: "s3://models/team-a/first", credentialsSecretRef: {name: s3}}.'
    )
    scheduling: Scheduling = Field(
        default_factory=Scheduling,
        description="Queue, priority, identity and nodes of the pods. A GPU for training: {stages: {train: {resources: {limits: {nvidia.com/gpu: 1}}}}}.",
    )
    suspend: bool = Field(
        False,
        description="true stops the running pods, which write a checkpoint first; once condition Suspended is True the spec may be edited; false goes on.",
    )
    cancel: bool = Field(
        False,
        description="true ends the job for good; finished stages stay in the store.",
        json_schema_extra={
            VALIDATIONS: [{"rule": "!oldSelf || self", "message": "a cancelled job stays cancelled: create a new one to run again"}]
        },
    )
    active_deadline_seconds: int | None = Field(
        None, ge=1, le=31536000, description="Most seconds of work; time spent suspended or waiting for quota or budget does not count."
    )
    backoff_limit: int = Field(2, ge=0, le=100, description="Failures of one stage that are retried. Preemption and eviction do not count.")
    ttl_seconds_after_finished: int | None = Field(
        None,
        ge=0,
        le=2147483647,
        description="Delete the finished object after this time. A GitOps tool that heals itself would create it again: leave it unset there.",
    )


class FrozenJob(Model):
    """What the pods of a run see at /etc/distillery/job.json: defaults applied, identity and image fixed."""

    namespace: ObjectName
    name: ObjectName
    uid: Annotated[str, Field(max_length=64)]
    trainer_image: Annotated[str, Field(max_length=1024)] = ""
    spec: DistillationJobSpec

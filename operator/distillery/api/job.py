"""DistillationJob: the spec, and the object frozen for the pods of one run."""

from __future__ import annotations

from typing import Annotated, ClassVar

from pydantic import Field

from .base import LocalRef, Model, ObjectName, OutputURI
from .data import Data
from .measure import Evaluation, Export
from .method import Method, Training
from .rules import VALIDATIONS, Rule
from .scheduling import Scheduling
from .spec_rules import SPEC_RULES
from .student import Student
from .teacher import Teacher


class Output(Model):
    """Where stages, checkpoints and results are kept. Jobs with the same output share finished stages."""

    uri: OutputURI = Field(description="s3://bucket/path, pvc://claim/path, or file:// in a local run.")
    credentials_secret_ref: LocalRef | None = Field(
        None, description="Secret with AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and, for other stores than AWS, AWS_ENDPOINT_URL."
    )


#: Everything that decides the result; frozen once the job has started.
FROZEN = ("teacher", "student", "data", "method", "training", "evaluation", "exports", "output", "scheduling")
#: May change at any time.
MUTABLE = ("suspend", "cancel", "activeDeadlineSeconds", "ttlSecondsAfterFinished", "backoffLimit")


class DistillationJobSpec(Model):
    """What to distil, from whom, how, and where the result goes. Teacher, student, prompts and output are enough."""

    RULES: ClassVar[tuple[Rule, ...]] = SPEC_RULES
    teacher: Teacher = Field(description="Who teaches: exactly one of model or traces.")
    student: Student = Field(description="Who learns: exactly one of model, fromTeacher or scratch; optionally with lora.")
    data: Data = Field(default_factory=Data, description="Training rows, held-out rows, template, filters.")
    method: Method = Field(default_factory=Method, description="Losses. Default: half forward KL at temperature 2, half cross-entropy.")
    training: Training = Field(default_factory=Training, description="The optimizer run.")
    evaluation: Evaluation = Field(default_factory=Evaluation, description="The check on held-out rows, with gates.")
    exports: Annotated[list[Export], Field(max_length=8)] = Field(
        default=[],
        description="Artifacts for edge targets, made in parallel. The student in Hugging Face layout is always published.",
        json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"]},
    )
    output: Output = Field(description="Where everything is written.")
    scheduling: Scheduling = Field(default_factory=Scheduling, description="Queue, priority, identity and nodes of the pods.")
    suspend: bool = Field(False, description="true stops the running pods (they write a checkpoint); false goes on from there.")
    cancel: bool = Field(
        False,
        description="true ends the job for good.",
        json_schema_extra={
            VALIDATIONS: [{"rule": "!oldSelf || self", "message": "a cancelled job stays cancelled: create a new one to run again"}]
        },
    )
    active_deadline_seconds: int | None = Field(
        None, ge=1, le=31536000, description="Most seconds of work; time spent suspended or waiting for quota does not count."
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

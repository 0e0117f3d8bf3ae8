"""Who teaches: open weights that our pods load, or traces that were made before."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field

from .base import DataURI, LocalRef, Model, ModelURI, NonNegativeDecimal
from .rules import Rule


class Sampling(Model):
    """How the teacher writes a completion where the rows have none."""

    max_completion_tokens: int = Field(256, ge=1, le=32768, description="Most tokens in one answer; a cut answer is dropped and counted.")
    temperature: NonNegativeDecimal = Field("0", description='Softmax temperature as a decimal string; "0" is greedy.')
    seed: int = Field(0, ge=0, le=2147483647, description="Seed of the sampler; the same seed gives the same text.")


class TeacherModel(Model):
    """Open weights in Hugging Face layout (safetensors, or one GGUF file), loaded by the traces stage."""

    uri: ModelURI = Field(
        description="hf://org/name@revision, s3://bucket/folder, pvc://claim/folder, or file:// in a local run. A URI that ends in .gguf names one GGUF file."
    )
    credentials_secret_ref: LocalRef | None = Field(
        None, description="Secret with HF_TOKEN or AWS_* keys for this URI; without it the pod's own identity is used."
    )
    sampling: Sampling = Field(
        default_factory=Sampling, description="Used for rows of format 'prompt', whose completions the teacher writes."
    )
    precision: Literal["auto", "float32", "bfloat16"] = Field(
        "auto",
        description="Arithmetic of the frozen teacher. auto: bfloat16 on a GPU that has it and on a CPU where a short probe finds it faster, else float32.",
    )


class TeacherTraces(Model):
    """Traces that an earlier job made: rows, teacher answers and signal."""

    uri: DataURI = Field(description="The manifest.json of a traces stage, for example s3://bucket/out/stages/traces-<hash>/manifest.json.")
    credentials_secret_ref: LocalRef | None = Field(None, description="Secret with AWS_* keys for this URI.")


class Teacher(Model):
    """Exactly one kind of teacher."""

    RULES: ClassVar[tuple[Rule, ...]] = (
        Rule(
            "has(self.model) != has(self.traces)",
            "needs exactly one of 'model' (open weights) or 'traces' (made before): give one, remove the other",
            lambda m: (m.model is None) != (m.traces is None),
        ),
    )
    model: TeacherModel | None = Field(
        None,
        description="Open weights, any causal language model of Hugging Face. The traces stage loads it once, lets it answer prompts that have no"
        " completion, and keeps its exact distribution over every completion token; give that stage memory or a GPU in scheduling.stages.traces.",
    )
    traces: TeacherTraces | None = Field(
        None,
        description="Traces that an earlier job made: its rows, answers and signal. For another student, other losses or another learning rate"
        " without the teacher; data.train and data.evaluation are left out.",
    )

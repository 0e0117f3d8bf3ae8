"""Who teaches: a model behind an API, open weights that our pods load, or traces that were made before."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field, StringConstraints

from .base import DataURI, DnsLabel, LocalRef, Model, ModelURI, NonNegativeDecimal, ProperFraction, number
from .rules import Rule, Spelling

#: A decimal above 0 and at most 1.
ProbabilityMass = Annotated[
    str,
    StringConstraints(max_length=12),
    Spelling(r"^(0?\.[0-9]*[1-9][0-9]*|1(\.0+)?)$", 'must be a decimal above 0 and at most 1, in quotes, for example "0.95"'),
]


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


class EndpointSampling(Model):
    """How the teacher answers; every field is part of an answer's identity in the cache."""

    RULES: ClassVar[tuple[Rule, ...]] = (
        Rule(
            "!has(self.samples) || self.samples == 1 || (has(self.temperature) && double(self.temperature) > 0.0)",
            "samples above 1 at temperature 0 buy the same answer again: raise temperature or set samples to 1",
            lambda m: m.samples == 1 or number(m.temperature) > 0,
        ),
    )
    max_completion_tokens: int = Field(
        512, ge=1, le=131072, description="Most tokens in one answer, reasoning included; a cut answer is paid for, dropped and counted."
    )
    temperature: NonNegativeDecimal = Field("0", description='Softmax temperature as a decimal string; "0" is greedy.')
    top_p: ProbabilityMass = Field("1", description='Nucleus sampling as a decimal string; "1" samples from all tokens.')
    # not `n`: YAML 1.1, which kubectl reads, takes that key for false
    samples: int = Field(1, ge=1, le=64, description="Answers per training row (`n` of the API); each becomes a row.")
    stop: Annotated[list[Annotated[str, Field(min_length=1, max_length=64)]], Field(max_length=4)] = Field(
        default=[], description="Texts that end an answer."
    )
    seed: int | None = Field(None, ge=0, le=2147483647, description="Sent to the API; not all keep to it.")
    top_logprobs: int = Field(0, ge=0, le=20, description="Alternatives per token to keep; a response objective learns from them.")


class EndpointTokenizer(Model):
    """The teacher's tokenizer, where it is public."""

    uri: ModelURI = Field(description="Folder with tokenizer.json, as hf://org/name@revision, s3://bucket/folder or pvc://claim/folder.")
    credentials_secret_ref: LocalRef | None = Field(None, description="Secret with HF_TOKEN or AWS_* keys for this URI.")


class TeacherEndpoint(Model):
    """A model behind an API, asked through the gateway within the job's TeacherBudget."""

    teacher: DnsLabel = Field(description="Name of a teacher in the budget that spec.budgetRef names.")
    sampling: EndpointSampling = Field(default_factory=EndpointSampling, description="How it answers.")
    tokenizer: EndpointTokenizer | None = Field(
        None,
        description="Needed by a student from scratch and by a response objective on topLogprobs; without it the student learns from the text.",
    )
    shards: int = Field(1, ge=1, le=64, description="Pods that ask side by side; each takes its part of the rows.")
    max_failure_ratio: ProperFraction = Field(
        "0.05",
        description="Part of the rows that may fail (refused, cut, unanswered) before the stage does; each is listed with its reason.",
    )
    retries_in_doubt: int = Field(
        1,
        ge=0,
        le=10,
        description="How often a request is sent again after one whose outcome nobody knows (a broken connection); each attempt stays booked at its worst case.",
    )


class Teacher(Model):
    """Exactly one kind of teacher."""

    RULES: ClassVar[tuple[Rule, ...]] = (
        Rule(
            "[has(self.endpoint), has(self.model), has(self.traces)].filter(x, x).size() == 1",
            "needs exactly one of 'endpoint' (a model behind an API), 'model' (open weights) or 'traces' (made before): give one, remove the others",
            lambda m: sum(part is not None for part in (m.endpoint, m.model, m.traces)) == 1,
        ),
    )
    endpoint: TeacherEndpoint | None = Field(
        None,
        description="A model behind an OpenAI-compatible API. Asked through the gateway, which holds the keys; needs spec.budgetRef and"
        " spec.governance. Example: {teacher: gpt-x, sampling: {maxCompletionTokens: 512}}.",
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

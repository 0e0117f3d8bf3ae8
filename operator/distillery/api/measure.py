"""What is measured, what must be reached, and the formats that are exported."""

from __future__ import annotations

from typing import Annotated, ClassVar, Generic, Literal, TypeVar

from pydantic import Field

from .base import Model, NonNegativeDecimal, ShortName, Text, number
from .rules import Rule
from .scheduling import StageScheduling

Metric = Literal["exactMatch", "labelAccuracy", "retention", "teacherKL", "top1Agreement", "perplexity"]
ArtifactMetric = Literal["exactMatch", "labelAccuracy", "retention", "agreement"]
M = TypeVar("M", bound=str)
#: What each format can hold.
QUANTIZATIONS = {"gguf": ("f16", "q8_0", "q4_0"), "onnx": ("fp32", "int8"), "safetensors": ("fp32", "bf16")}
_BOUNDS = (
    Rule(
        "has(self.min) || has(self.max)",
        "a gate needs 'min', 'max' or both: without a bound it checks nothing",
        lambda m: m.min is not None or m.max is not None,
    ),
    Rule(
        "!(has(self.min) && has(self.max)) || double(self.min) <= double(self.max)",
        "min is larger than max, so nothing can pass: swap them",
        lambda m: m.min is None or m.max is None or number(m.min) <= number(m.max),
    ),
    Rule(
        "self.metric in ['teacherKL', 'perplexity', 'retention'] || !has(self.min) || double(self.min) <= 1.0",
        'min is a part of 1, so nothing above 1 can pass: write "0.95" for 95 %',
        lambda m: m.metric in ("teacherKL", "perplexity", "retention") or m.min is None or number(m.min) <= 1,
    ),
    Rule(
        "self.metric != 'retention' || !has(self.min) || double(self.min) <= 2.0",
        "retention is the student's score divided by the teacher's: write \"0.95\" for 95 %",
        lambda m: m.metric != "retention" or m.min is None or number(m.min) <= 2,
    ),
)


class Generation(Model):
    """How held-out rows are answered: greedily."""

    max_new_tokens: int = Field(256, ge=1, le=32768, description="Most tokens in an answer.")
    batch_size: int = Field(32, ge=1, le=4096, description="Rows answered at once.")


class Bound(Model, Generic[M]):
    """From where to where a metric passes."""

    RULES: ClassVar[tuple[Rule, ...]] = _BOUNDS
    metric: M
    min: NonNegativeDecimal | None = Field(None, description="Smallest value that passes.")
    max: NonNegativeDecimal | None = Field(None, description="Largest value that passes.")


class Gate(Bound[Metric]):
    """A bound that the student must meet before anything is exported."""

    metric: Metric = Field(
        description="exactMatch, labelAccuracy, retention (student's score divided by the teacher's), teacherKL (nats per token), top1Agreement or perplexity."
    )


class ArtifactGate(Bound[ArtifactMetric]):
    """A bound that one artifact must meet, measured in its own runtime, before it is published."""

    metric: ArtifactMetric = Field(
        description="exactMatch or labelAccuracy of the artifact's own answers, retention (its score divided by the teacher's), or agreement (part of rows answered as the unquantized student answers them)."
    )


class Evaluation(Model):
    """The check between training and export."""

    generation: Generation = Field(default_factory=Generation, description="How answers are generated.")
    max_rows: int = Field(1000, ge=1, le=1000000, description="Held-out rows used, from the first.")
    gates: Annotated[list[Gate], Field(max_length=8)] = Field(
        default=[], description="All must pass, else the job fails and nothing is published."
    )


def _takes(kind: str, quantizations: tuple[str, ...]) -> Rule:
    return Rule(
        f"self.format != '{kind}' || self.quantization in {list(quantizations)}",
        f"format {kind} takes quantization {', '.join(quantizations[:-1])} or {quantizations[-1]}",
        lambda m: m.format != kind or m.quantization in quantizations,
    )


class Export(StageScheduling):
    """One artifact for one kind of target."""

    RULES: ClassVar[tuple[Rule, ...]] = (*StageScheduling.RULES, *(_takes(*pair) for pair in QUANTIZATIONS.items()))
    name: ShortName = Field(description="Name of the artifact, unique in the job.")
    format: Literal["gguf", "onnx", "safetensors"] = Field(
        description="gguf (llama.cpp), onnx (ONNX Runtime) or safetensors (Hugging Face)."
    )
    quantization: Literal["f16", "q8_0", "q4_0", "fp32", "int8", "bf16"] = Field(
        description="gguf: f16, q8_0, q4_0; onnx: fp32, int8; safetensors: fp32, bf16."
    )
    gates: Annotated[list[ArtifactGate], Field(max_length=4)] = Field(
        default=[],
        description="An artifact that misses one is not published; nor is one without a gate on agreement that answers less than half of the rows as the student does.",
    )


class MetricValue(Model):
    """A number under a name, as a string like every decimal of the API."""

    name: Annotated[str, Field(max_length=63)] = Field(description="Name of the number.")
    value: Annotated[str, Field(max_length=32)] = Field(description="Its value, a decimal.")


class EvaluationRow(Model):
    """One metric for teacher, student and the untrained student."""

    metric: Annotated[str, Field(max_length=63)] = Field(description="Name of the metric.")
    teacher: Annotated[str, Field(max_length=32)] | None = Field(None, description="The teacher's value.")
    student: Annotated[str, Field(max_length=32)] | None = Field(None, description="The trained student's value.")
    baseline: Annotated[str, Field(max_length=32)] | None = Field(None, description="The student's value before training.")
    retention: Annotated[str, Field(max_length=32)] | None = Field(None, description="student / teacher, for metrics where more is better.")


class EvaluationResult(Model):
    """What the evaluate stage found."""

    results: Annotated[list[EvaluationRow], Field(max_length=16)] = Field(default=[], description="One row per metric.")
    compression: Annotated[str, Field(max_length=32)] | None = Field(
        None, description="Parameters of the teacher / parameters of the student."
    )
    teacher_parameters: int | None = Field(None, description="Number of the teacher's parameters.")
    student_parameters: int | None = Field(None, description="Number of the student's parameters.")
    rows: int | None = Field(None, description="Held-out rows that were used.")
    passed: bool | None = Field(None, description="Whether all gates were met.")


class Artifact(Model):
    """One exported file or folder, as measured in its own runtime."""

    name: Annotated[str, Field(max_length=63)] = Field(description="Its name in spec.exports.")
    format: Annotated[str, Field(max_length=32)] = Field(description="As in spec.exports.")
    quantization: Annotated[str, Field(max_length=32)] = Field(description="As in spec.exports.")
    uri: Annotated[str, Field(max_length=1024)] | None = Field(None, description="Where it was published; absent if it was not.")
    digest: Annotated[str, Field(max_length=80)] | None = Field(None, description="sha256 of the file, or of the folder's list of files.")
    size_bytes: int | None = Field(None, description="Size of the file or folder.")
    passed: bool | None = Field(None, description="Whether its gates were met.")
    evaluation: Annotated[list[MetricValue], Field(max_length=8)] = Field(
        default=[], description="Measured on the held-out rows in the artifact's own runtime."
    )
    message: Text | None = Field(None, description="Why it is withheld: the gate that was missed, or why it could not be made.")

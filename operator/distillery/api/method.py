"""How the student learns: objectives, their weights, and the training run."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from .base import Model, NonNegativeDecimal, PositiveDecimal, Ratio, number
from .rules import Rule
from .teacher import Teacher


class Response(Model):
    """Match the teacher's distribution over the next token (Hinton et al., 2015, arXiv 1503.02531)."""

    divergence: Literal["forwardKL"] = Field(
        "forwardKL", description="forwardKL: KL(teacher || student), summed over the vocabulary, mean over completion tokens."
    )
    temperature: PositiveDecimal = Field("2", description="Softens both sides; the loss is multiplied by its square.")
    signal: Literal["auto", "logits", "hiddenState"] = Field(
        "auto",
        description="What the traces stage keeps per token, exact either way. auto: the logits if the vocabulary is not larger than the hidden size, else the hidden state.",
    )
    weight: NonNegativeDecimal = Field("0.5", description="Factor of this loss in the sum.")


class HardLabel(Model):
    """Cross-entropy against the tokens of the completion."""

    weight: NonNegativeDecimal = Field("0.5", description="Factor of this loss in the sum.")


class Objective(Model):
    """Exactly one loss."""

    RULES: ClassVar[tuple[Rule, ...]] = (
        Rule(
            "has(self.response) != has(self.hardLabel)",
            "an objective is exactly one of 'response' or 'hardLabel': make two objectives of two losses",
            lambda m: (m.response is None) != (m.hard_label is None),
        ),
    )
    response: Response | None = Field(None, description="Match the teacher's distribution.")
    hard_label: HardLabel | None = Field(None, description="Match the text.")


class Round(Model):
    """One pass of training with a fixed mix of losses."""

    RULES: ClassVar[tuple[Rule, ...]] = (
        Rule(
            "self.objectives.filter(o, has(o.response)).size() <= 1",
            "objectives hold at most one 'response': remove the other",
            lambda m: sum(o.response is not None for o in m.objectives) <= 1,
        ),
        Rule(
            "self.objectives.filter(o, has(o.hardLabel)).size() <= 1",
            "objectives hold at most one 'hardLabel': remove the other",
            lambda m: sum(o.hard_label is not None for o in m.objectives) <= 1,
        ),
        Rule(
            "self.objectives.exists(o, (has(o.response) && (!has(o.response.weight) || double(o.response.weight) > 0.0))"
            " || (has(o.hardLabel) && (!has(o.hardLabel.weight) || double(o.hardLabel.weight) > 0.0)))",
            "all weights are 0, so there is nothing to minimise: give one objective a weight above 0",
            lambda m: any(number(loss.weight) > 0 for o in m.objectives for loss in (o.response, o.hard_label) if loss),
        ),
    )
    objectives: Annotated[list[Objective], Field(min_length=1, max_length=4)] = Field(
        default_factory=lambda: [Objective(response=Response()), Objective(hard_label=HardLabel())],
        description="The losses whose weighted sum is minimised.",
        json_schema_extra={"default": [{"response": {}}, {"hardLabel": {}}]},
    )


class Method(Model):
    """The rounds of training, in order; this version runs one."""

    rounds: Annotated[list[Round], Field(min_length=1, max_length=1)] = Field(
        default_factory=lambda: [Round()],
        description="Passes of training, in order; exactly one in this version.",
        json_schema_extra={"default": [{"objectives": [{"response": {}}, {"hardLabel": {}}]}]},
    )

    def response(self) -> Response | None:
        """The response objective, if the method has one."""
        return next((o.response for o in self.rounds[0].objectives if o.response), None)

    def hard_label(self) -> HardLabel | None:
        """The hard-label objective, if the method has one."""
        return next((o.hard_label for o in self.rounds[0].objectives if o.hard_label), None)


def default_method(teacher: Teacher) -> Method:
    """Half response, half hard labels; the text alone where the teacher gives no distribution."""
    endpoint = teacher.endpoint
    if endpoint is None:
        return Method()
    if endpoint.tokenizer is None or endpoint.sampling.top_logprobs == 0 or number(endpoint.sampling.temperature) != 1:
        return Method(rounds=[Round(objectives=[Objective(hard_label=HardLabel(weight="1"))])])
    return Method(rounds=[Round(objectives=[Objective(response=Response(temperature="1")), Objective(hard_label=HardLabel())])])


class Checkpoint(Model):
    """When the state of training is saved; it is saved on SIGTERM as well."""

    every_steps: int = Field(100, ge=1, le=1000000, description="Optimizer steps between two checkpoints.")


class Training(Model):
    """AdamW (Loshchilov & Hutter, 2019) on one node."""

    nodes: Literal[1] = Field(1, description="Training nodes; this version trains on one.")
    global_batch_size: int = Field(32, ge=1, le=65536, description="Rows per optimizer step.")
    micro_batch_size: int | None = Field(
        None, ge=1, le=65536, description="Rows per forward pass; the rest is accumulated. All rows of a step at once if absent."
    )
    max_steps: int | None = Field(None, ge=1, le=10000000, description="Optimizer steps; takes precedence over epochs.")
    epochs: int = Field(3, ge=1, le=10000, description="Passes over the rows, where maxSteps is absent.")
    max_sequence_length: int = Field(1024, ge=8, le=1048576, description="Longest prompt with completion, in tokens.")
    learning_rate: PositiveDecimal = Field("0.0003", description="Peak learning rate.")
    schedule: Literal["constant", "linear", "cosine"] = Field(
        "cosine", description="How the learning rate falls after the warm-up; linear and cosine end at 0."
    )
    warmup_ratio: Ratio = Field("0.03", description="Part of the steps over which the learning rate rises from 0.")
    weight_decay: NonNegativeDecimal = Field("0.01", description="Decoupled weight decay, on matrices only.")
    max_grad_norm: PositiveDecimal = Field("1.0", description="Gradients are scaled down to this norm.")
    precision: Literal["auto", "float32", "bfloat16"] = Field(
        "auto", description="auto: bfloat16 autocast where the GPU has it, else float32."
    )
    seed: int = Field(0, ge=0, le=2147483647, description="Seed of initialisation, order of rows and dropout.")
    checkpoint: Checkpoint = Field(default_factory=Checkpoint, description="Checkpointing.")

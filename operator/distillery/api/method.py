"""What the student learns by: objectives and their weights."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from .base import Model, NonNegativeDecimal, PositiveDecimal, number
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

"""Teachers that counted more tokens for a prompt than it can have: money may have been enough this time, but the bound is wrong."""

from __future__ import annotations

from dataclasses import dataclass

from distillery.api import reasons
from distillery.prices.bound import template_tokens

from .errors import Refused, refusal
from .question import Question
from .standing import Standing


@dataclass(frozen=True, slots=True)
class _Broken:
    """What a teacher's templateTokens was then, and the sentence."""

    given: int | None
    refused: Refused


class Bounds:
    """Those that were found wrong since the gateway started, by budget and teacher; another value of the field is tried anew."""

    def __init__(self) -> None:
        self._broken: dict[str, _Broken] = {}

    def hold(self, standing: Standing, question: Question, counted: int) -> bool:
        """Whether an answer's prompt had no more tokens than were held for it. Servers differ in whether they count it once an answer."""
        beyond = counted - question.n * question.input_tokens
        if beyond <= 0:
            return True
        teacher = standing.teacher
        field = f'spec.teachers["{teacher.name}"].templateTokens of TeacherBudget "{standing.budget}"'
        text = (
            f"{field}: the teacher counted {counted} prompt tokens where at most {counted - beyond} were held; its chat template adds more"
        )
        least = template_tokens(teacher, 0) + -(-beyond // question.n)
        refused = refusal(reasons.OVERRUN, f"{text}: set it to {least} or more")
        self._broken[standing.payer] = _Broken(teacher.template_tokens, refused)
        return False

    def refused(self, standing: Standing) -> Refused | None:
        """What a job is told whose teacher's bound was found wrong."""
        known = self._broken.get(standing.payer)
        if known is None:
            return None
        if known.given != standing.teacher.template_tokens:
            del self._broken[standing.payer]
            return None
        return known.refused

    def sentences(self, budget: str) -> list[str]:
        """What is wrong in a budget, for its status."""
        return [known.refused.message for payer, known in sorted(self._broken.items()) if payer.rpartition("/")[0] == budget]

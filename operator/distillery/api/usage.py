"""What the gateway tells the operator, the pods and, through the status, people: about money, teachers and terms."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from .base import Model
from .budget import BudgetTeacher, LedgerHead, TeacherStatus, Window
from .governance import PolicyVerdict
from .status import Amount, CostEstimate, Message, TeacherUsage, Time, Word


class ReservationRequest(Model):
    """What the operator knows of a job's need before any money is spent: from its preflight."""

    requests: int = Field(ge=0, description="Requests in all.")
    longest_prompt_bytes: int = Field(ge=0, description="UTF-8 bytes of the longest prompt with its template.")


class Reservation(Model):
    """Whether a job may ask its teacher now. PUT asks for it and keeps it alive; DELETE gives back what is not spent."""

    state: Literal["Granted", "Refused"] = Field(description="Refused: nothing is held for new requests.")
    reason: Word = Field(
        description="CamelCase, from `reasons`: BudgetReserved, BudgetExhausted, BudgetMissing, TermsForbidUse, PriceUnknown, …"
    )
    message: Message = Field("", description="Sentence with the remedy.")
    resumes: Time | None = Field(None, description="When the window that refuses ends.")
    usage: TeacherUsage = Field(default_factory=TeacherUsage)
    estimate: CostEstimate | None = None
    policy: PolicyVerdict | None = None


class BudgetSnapshot(Model):
    """All that the gateway knows of one TeacherBudget."""

    windows: list[Window] = Field(default=[])
    teachers: list[TeacherStatus] = Field(default=[])
    exhausted: Annotated[list[Message], Field(max_length=16)] = Field(
        default=[], description="Windows that refuse, each with its sentence."
    )
    alerts: Annotated[list[Message], Field(max_length=16)] = Field(
        default=[], description="Alerts that are over their threshold, each with its sentence."
    )
    saved: Amount = "0.00"
    ledger: LedgerHead | None = None
    read_only: Message | None = Field(
        None, description="Why the ledger takes no requests, for example that it was restored and not reconciled."
    )


class TeacherInfo(Model):
    """What a stage pod of a job may know of its teacher (GET /v1/teacher): identity for hashes and lineage, limits, terms."""

    teacher: BudgetTeacher
    budget: Word
    policy: PolicyVerdict
    prices: Annotated[str, Field(max_length=64)] = Field("", description="sha256 of the prices that apply.")

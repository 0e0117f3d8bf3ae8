"""What the student is for, and under which terms a teacher may be asked for it."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, StringConstraints

from .base import Model, Text
from .rules import Spelling

#: Name of an entry of the catalogue of terms, for example openai-services-2026-01-01.
TermsId = Annotated[
    str,
    StringConstraints(max_length=63),
    Spelling(r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$", "must be the id of an entry of the catalogue of terms, for example apache-2.0"),
]
Day = Annotated[
    str,
    StringConstraints(max_length=10),
    Spelling(r"^[0-9]{4}-(0[1-9]|1[0-2])-(0[1-9]|[12][0-9]|3[01])$", 'must be a day, in quotes, for example "2027-01-31"'),
]
Country = Annotated[
    str,
    StringConstraints(max_length=2),
    Spelling("^[A-Z]{2}$", "must be two capital letters: EU or a country of ISO 3166-1, for example DE"),
]


class DeclaredUse(Model):
    """What the student is for. Terms of teachers are judged by it, so it is a statement of whoever applies the job."""

    purpose: Literal["commercial", "internal", "research"] = Field(
        description="commercial: earns money or serves customers. internal: used inside the organisation. research: published or thrown away, never in production."
    )
    task: Literal["generate", "classify", "embed"] = Field(
        "generate", description="What the student does; some terms allow classifiers and embedders only."
    )
    distribution: Literal["internal", "service", "weights"] = Field(
        "internal", description="internal: stays inside. service: others use it over a network. weights: others get the model file."
    )
    competes: bool = Field(description="Whether the student, or what it serves, competes with a product of the teacher's provider.")
    territories: Annotated[list[Country], Field(max_length=64)] = Field(
        default=[], description="Where it is used: EU or ISO 3166-1 codes. Some licences are void in some places."
    )
    student_name: Annotated[str, Field(max_length=96)] | None = Field(
        None, description="Published name of the student; some licences ask for a prefix."
    )


class Governance(Model):
    """Statements that the terms of the teacher are judged by."""

    declared_use: DeclaredUse = Field(
        description="Required with teacher.endpoint. Example: {purpose: internal, task: classify, competes: false}."
    )


class Approval(Model):
    """A written permission of the provider, or of the platform team's lawyers, where terms ask for one. Kept by the platform team."""

    reference: Annotated[str, Field(min_length=1, max_length=128)] = Field(description="Where the permission is filed.")
    expires: Day = Field(description="Last day (UTC) on which it holds.")


class TeacherTerms(Model):
    """The contract with the host of a teacher and the licence of its weights: entries of the catalogue of terms."""

    service: TermsId | None = Field(
        None, description="Terms of the service that is called. Found by the base URL if absent; 'self-hosted' for one of your own."
    )
    weights: TermsId | None = Field(None, description="Licence of the weights, where they are open, for example apache-2.0 or llama-3.3.")
    approval: Approval | None = Field(None, description="Permission for uses that the terms allow with one only.")


class Obligation(Model):
    """What the publisher of the student has to do."""

    type: Annotated[str, Field(max_length=32)] = Field(
        description="namePrefix, display, file, flowDown, notice, nonCommercial, territory or review."
    )
    value: Annotated[str, Field(max_length=256)] = Field("", description="For example the prefix or the text to show.")


class PolicyVerdict(Model):
    """What the terms say about the declared use; the strictest of all terms that apply."""

    verdict: Literal["deny", "unknown", "requireApproval", "permit"] = Field(
        description="deny and unknown stop the job; requireApproval does without an approval that holds."
    )
    terms: Annotated[list[TermsId], Field(max_length=8)] = Field(default=[], description="Entries of the catalogue that apply.")
    clause: Annotated[str, Field(max_length=128)] = Field("", description="The deciding clause.")
    url: Annotated[str, Field(max_length=512)] = Field("", description="Where the terms stand.")
    message: Text = Field("", description="Sentence for people, with the remedy.")
    obligations: Annotated[list[Obligation], Field(max_length=16)] = Field(
        default=[], description="What to do when the student is published."
    )
    catalogue: Annotated[str, Field(max_length=64)] = Field("", description="sha256 of the catalogue that was used.")
    approval: Annotated[str, Field(max_length=128)] | None = Field(None, description="Reference of the approval that was used.")

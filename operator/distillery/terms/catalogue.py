"""The catalogue of terms: what contracts and licences say, as closed rules that a lawyer can read and a test can run."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date
from fnmatch import fnmatchcase
from functools import cached_property
from typing import Annotated, Any, ClassVar, Literal

import yaml
from pydantic import BeforeValidator, Field, StringConstraints, ValidationError

from distillery.api.base import Model
from distillery.api.digest import digest
from distillery.api.governance import Country, Day, DeclaredUse, Obligation, TermsId
from distillery.api.problems import problems
from distillery.api.rules import Rule, Spelling

Effect = Literal["deny", "requireApproval", "permit", "unknown"]
Sentence = Annotated[str, StringConstraints(min_length=1, max_length=512)]
#: YAML reads an unquoted day as a date.
Written = Annotated[Day, BeforeValidator(lambda value: value.isoformat() if isinstance(value, date) else value)]
Url = Annotated[
    str, StringConstraints(max_length=512), Spelling("^https?://[^ ]+$", "must be the https:// address at which the terms can be read")
]
HostPattern = Annotated[
    str,
    StringConstraints(max_length=253),
    Spelling(r"^[a-z0-9*]([-a-z0-9.*]*[a-z0-9])?$", "must be a lower-case host, with * for any part: api.openai.com, *.openai.azure.com"),
]
#: A rule for the EU holds in each of its members, and a use in the EU touches each of them.
EU = frozenset((
    "AT", "BE", "BG", "CY", "CZ", "DE", "DK", "EE", "ES", "FI", "FR", "GR", "HR", "HU",
    "IE", "IT", "LT", "LU", "LV", "MT", "NL", "PL", "PT", "RO", "SE", "SI", "SK",
))  # fmt: skip


class BadCatalogue(ValueError):
    """The text is no catalogue; the message names entry, field, value and remedy."""


class Match(Model):
    """Which uses a rule or an obligation is about: every field that is given has to agree."""

    purpose: list[Literal["commercial", "internal", "research"]] | None = Field(None, min_length=1)
    task: list[Literal["generate", "classify", "embed"]] | None = Field(None, min_length=1)
    distribution: list[Literal["internal", "service", "weights"]] | None = Field(None, min_length=1)
    competes: bool | None = None
    territories: list[Country] | None = Field(None, min_length=1, description="Any of them.")
    territories_declared: bool | None = Field(None, description="Whether the use says where it is used.")

    def meets(self, use: DeclaredUse) -> bool:
        """Whether the use is one of these."""
        return (
            (self.purpose is None or use.purpose in self.purpose)
            and (self.task is None or use.task in self.task)
            and (self.distribution is None or use.distribution in self.distribution)
            and (self.competes is None or use.competes == self.competes)
            and (self.territories is None or bool(_members(use.territories) & _members(self.territories)))
            and (self.territories_declared is None or bool(use.territories) == self.territories_declared)
        )


def _members(territories: Sequence[str]) -> frozenset[str]:
    named = frozenset(territories)
    return named | EU if "EU" in named else named


class TermsRule(Model):
    """What the terms say about some uses."""

    when: Match = Field(default_factory=Match, description="Absent: every use that no rule before it was about.")
    effect: Effect
    message: Sentence = Field(description="The clause in our own words.")
    clause: Annotated[str, StringConstraints(max_length=128)] | None = Field(None, description="Where it differs from the entry's.")
    remedy: Sentence | None = Field(None, description="What a user can do; there is a sentence for each effect without it.")


class Duty(Model):
    """An obligation and the uses that it is for."""

    type: Literal["namePrefix", "display", "file", "flowDown", "notice", "nonCommercial", "territory", "review"]
    value: Annotated[str, StringConstraints(max_length=256)] = ""
    when: Match = Field(default_factory=Match)

    def obligation(self) -> Obligation:
        """As a verdict lists it."""
        return Obligation(type=self.type, value=self.value)


class Entry(Model):
    """One version of the terms of a service, or one licence of weights. A new version is a new entry with a new id."""

    RULES: ClassVar[tuple[Rule, ...]] = (
        Rule(None, "only a service has hosts: set kind: service or remove them", lambda m: m.kind == "service" or not m.hosts),
        Rule(None, "only a service can leave it to the weights: remove needsWeights", lambda m: m.kind == "service" or not m.needs_weights),
        Rule(None, "a text that can be read has to be read again: set reviewBy", lambda m: m.url is None or m.review_by is not None),
    )
    id: TermsId
    kind: Literal["service", "weights"]
    title: Sentence
    provider: Annotated[str, StringConstraints(min_length=1, max_length=64)] = Field(description="Who is the other side of the contract.")
    hosts: Annotated[list[HostPattern], Field(max_length=32)] = Field(default=[], description="Of the base URLs that come under them.")
    needs_weights: bool = Field(False, description="The service leaves what may be done with answers to the terms of the model itself.")
    clause: Annotated[str, StringConstraints(max_length=128)] = ""
    url: Url | None = Field(None, description="Absent only where there is no text to read, as with one's own weights.")
    effective: Written | None = Field(None, description="First day in force, or last update, as the text says; absent if it does not.")
    retrieved: Written | None = Field(None, description="Day on which the text was read; absent where there is none or nobody has.")
    review_by: Written | None = Field(None, description="Day after which someone has to read the text again; required with url.")
    secondary: bool = Field(False, description="Known from reports about the text, not from the text.")
    rules: Annotated[list[TermsRule], Field(min_length=1, max_length=16)] = Field(description="The first that meets the use decides.")
    obligations: Annotated[list[Duty], Field(max_length=7)] = Field(default=[])

    def rule(self, use: DeclaredUse) -> TermsRule | None:
        """The rule that decides, if there is one."""
        return next((rule for rule in self.rules if rule.when.meets(use)), None)

    def serves(self, host: str) -> bool:
        """Whether a base URL with this host comes under these terms."""
        return any(fnmatchcase(host, pattern) for pattern in self.hosts)


class Catalogue(Model):
    """All entries; where several have a host, the first of `entries` that is in force counts."""

    RULES: ClassVar[tuple[Rule, ...]] = (
        Rule(
            None, "two entries have the same id: give each version its own",
            lambda m: len({entry.id for entry in m.entries}) == len(m.entries),
        ),
    )  # fmt: skip
    version: Annotated[str, StringConstraints(min_length=1, max_length=64)]
    entries: list[Entry] = Field(default=[])

    @cached_property
    def digest(self) -> str:
        """sha256 of the content, whatever the layout of the file."""
        return digest(self.wire())

    @cached_property
    def _by_id(self) -> dict[str, Entry]:
        return {entry.id: entry for entry in self.entries}

    def get(self, terms_id: str) -> Entry | None:
        """An entry by its id."""
        return self._by_id.get(terms_id)

    def at_host(self, host: str, today: date) -> Entry | None:
        """The first entry for a host that is in force: a new version is written above the one that it follows."""
        day = today.isoformat()
        return next((entry for entry in self.entries if entry.serves(host) and (entry.effective or "") <= day), None)

    def overridden(self, own: Catalogue) -> Catalogue:
        """With the entries of an organisation's own catalogue: the same id replaces, the others come first."""
        replaced = {entry.id for entry in own.entries}
        kept = [entry for entry in self.entries if entry.id not in replaced]
        return Catalogue(version=f"{self.version[:31]}+{own.version[:31]}", entries=[*own.entries, *kept])


def parse_catalogue(text: str, name: str = "catalogue of terms") -> Catalogue:
    """The catalogue in a YAML text; `name` is how errors call it."""
    try:
        content: Any = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise BadCatalogue(f"{name}: not YAML: {error}") from error
    try:
        return Catalogue.model_validate(content)
    except ValidationError as error:
        raise BadCatalogue(f"{name}: " + "; ".join(problems(error))) from error

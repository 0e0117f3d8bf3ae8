"""TeacherBudget: which teachers a namespace may ask, at which prices, under which terms, and how much it may spend."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field, StringConstraints

from .base import DnsLabel, Model
from .governance import TeacherTerms
from .money import Money, nano_usd
from .rules import Rule, Spelling
from .status import Condition, Message, Time, Word

BaseURL = Annotated[
    str,
    StringConstraints(max_length=512),
    Spelling(
        r"^https?://[A-Za-z0-9.-]+(:[0-9]{1,5})?(/[A-Za-z0-9._~-]+)*$",
        "must be http(s)://host[:port]/path without '/' at the end, user or query, for example https://api.openai.com/v1",
    ),
]
ModelName = Annotated[str, Field(min_length=1, max_length=128)]
WindowName = Literal["perJob", "daily", "monthly", "total"]


class TokenLimits(Model):
    """Bounds in tokens, input and output together, for teachers whose price is no money."""

    total: int | None = Field(None, ge=0, description="For ever.")
    monthly: int | None = Field(None, ge=0, description="Per calendar month, UTC.")
    daily: int | None = Field(None, ge=0, description="Per day, UTC.")
    per_job: int | None = Field(None, ge=0, description="Per DistillationJob.")


class Limits(Model):
    """Bounds that hold at the same time; none is ever overspent. Windows are fixed and in UTC."""

    RULES: ClassVar[tuple[Rule, ...]] = (
        Rule(
            "has(self.total) || has(self.monthly) || has(self.daily) || has(self.perJob) || has(self.tokens)",
            "limits need at least one bound: total, monthly, daily, perJob or tokens",
            lambda m: any(v is not None for v in (m.total, m.monthly, m.daily, m.per_job, m.tokens)),
        ),
    )
    total: Money | None = Field(None, description='US dollars for ever, in quotes: "5000.00".')
    monthly: Money | None = Field(None, description="US dollars per calendar month, UTC.")
    daily: Money | None = Field(None, description="US dollars per day, UTC.")
    per_job: Money | None = Field(None, description="US dollars per DistillationJob.")
    tokens: TokenLimits | None = Field(None, description="Bounds in tokens, beside or instead of money.")

    def nano(self) -> dict[WindowName, int]:
        """The bounds on money in nano-dollars."""
        named: tuple[tuple[WindowName, str | None], ...] = (
            ("perJob", self.per_job), ("daily", self.daily), ("monthly", self.monthly), ("total", self.total),
        )  # fmt: skip
        return {name: nano_usd(amount) for name, amount in named if amount is not None}

    def in_tokens(self) -> dict[WindowName, int]:
        """The bounds on tokens."""
        t = self.tokens or TokenLimits()
        named: tuple[tuple[WindowName, int | None], ...] = (
            ("perJob", t.per_job), ("daily", t.daily), ("monthly", t.monthly), ("total", t.total),
        )  # fmt: skip
        return {name: amount for name, amount in named if amount is not None}


class Prices(Model):
    """What a teacher costs: given here, or looked up. A teacher whose price is unknown is not asked."""

    RULES: ClassVar[tuple[Rule, ...]] = (
        Rule(
            "has(self.source) != (has(self.inputPerMillion) && has(self.outputPerMillion))",
            "prices need either 'source' or both 'inputPerMillion' and 'outputPerMillion'",
            lambda m: (m.source is not None) != (m.input_per_million is not None and m.output_per_million is not None),
        ),
    )
    source: Literal["genai-prices"] | None = Field(None, description="The price table of the gateway, pinned by its digest.")
    provider: Annotated[str, Field(max_length=64)] | None = Field(
        None, description="Provider in that table, for example openai; found by the base URL if absent."
    )
    input_per_million: Money | None = Field(None, description='US dollars per million input tokens, in quotes: "0.15". "0" is free.')
    cached_input_per_million: Money | None = Field(
        None, description="US dollars per million input tokens that the provider read from its cache; as input if absent."
    )
    output_per_million: Money | None = Field(None, description="US dollars per million output tokens, reasoning included.")
    per_request: Money | None = Field(None, description="US dollars per request, beside the tokens.")


class RateLimits(Model):
    """What the provider allows; the gateway keeps to it for all jobs together."""

    requests_per_minute: int | None = Field(None, ge=1, le=10_000_000, description="Requests sent per minute.")
    tokens_per_minute: int | None = Field(
        None, ge=1, le=10_000_000_000, description="Tokens per minute, counted at the upper bound of a request when it is sent."
    )
    max_concurrency: int = Field(64, ge=1, le=4096, description="Requests in flight at once.")


class BudgetTeacher(Model):
    """One model behind an OpenAI-compatible API."""

    name: DnsLabel = Field(description="How jobs name it in teacher.endpoint.teacher.")
    base_url: BaseURL = Field(
        alias="baseURL",
        description="Of the OpenAI-compatible API, for example https://api.openai.com/v1. Has to be one that the credential may be sent to.",
    )
    model: ModelName = Field(description="Model id that is sent to the API. Pin a snapshot: aliases change under your feet.")
    credential: DnsLabel | None = Field(
        None, description="Name of a credential of the chart; without it no key is sent, and baseURL has to be listed for use without one."
    )
    prices: Prices = Field(description="What it costs.")
    rate_limits: RateLimits = Field(default_factory=RateLimits, description="Bounds on requests and tokens per minute.")
    terms: TeacherTerms = Field(default_factory=TeacherTerms, description="Contract and licence that its answers come under.")
    max_completion_tokens: int = Field(
        4096, ge=1, le=1_000_000, description="Most output tokens of one answer; requests for more are lowered to it."
    )
    template_tokens: int | None = Field(
        None, ge=0, le=1_000_000,
        description="Most input tokens that the API adds to the texts of a prompt (chat template, system prompt of the provider), beside 16 a message. Held for each request. Absent: a bound for the model's family; of a family that is not known, 2048.",
    )  # fmt: skip
    parameter: Literal["max_completion_tokens", "max_tokens"] = Field(
        "max_completion_tokens", description="Field in which the API takes that bound; older servers know max_tokens only."
    )


Percent = Annotated[
    str, StringConstraints(max_length=4), Spelling("^([1-9][0-9]?|100)%$", 'must be a percentage from 1% to 100%, in quotes: "80%"')
]


class Alert(Model):
    """What happens when a window has used so much of its limit."""

    at: Percent = Field(description='Part of the limit that is settled, held or in doubt, in quotes: "80%".')
    action: Literal["notify", "throttle", "pause"] = Field(
        "notify",
        description="notify: Event and condition. throttle: half the rate limits. pause: no new requests until the limit is raised or the window ends.",
    )


class CacheOptions(Model):
    """Who may be given an answer again that was bought once."""

    scope: Literal["namespace", "shared"] = Field(
        "namespace", description="namespace: jobs of this namespace. shared: all namespaces that share too; the chart has to permit it."
    )


class TeacherBudgetSpec(Model):
    """Belongs to the platform team."""

    RULES: ClassVar[tuple[Rule, ...]] = (
        Rule(None, "teachers need a name each: two have the same", lambda s: len({t.name for t in s.teachers}) == len(s.teachers)),
        Rule(None, "alerts need an 'at' each: two have the same", lambda s: len({a.at for a in s.alerts}) == len(s.alerts)),
    )
    limits: Limits = Field(description='How much may be spent. Example: {monthly: "1500.00", perJob: "400.00"}.')
    teachers: Annotated[list[BudgetTeacher], Field(min_length=1, max_length=32)] = Field(
        description="Who may be asked.", json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"]}
    )
    alerts: Annotated[list[Alert], Field(max_length=8)] = Field(
        default=[], description="Thresholds.", json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["at"]}
    )
    cache: CacheOptions = Field(default_factory=CacheOptions, description="Reuse of bought answers.")

    def teacher(self, name: str) -> BudgetTeacher | None:
        """One teacher by name."""
        return next((teacher for teacher in self.teachers if teacher.name == name), None)


class Window(Model):
    """One account: how much of a limit is used."""

    name: Annotated[str, Field(max_length=16)] = Field(description="daily, monthly or total; perJob stands with the jobs.")
    unit: Literal["USD", "tokens"] = Field("USD", description="What is counted.")
    id: Annotated[str, Field(max_length=32)] = Field(description="For example 2026-11 or 2026-11-24.")
    limit: Annotated[str, Field(max_length=24)] = Field(description="Bound of this window.")
    settled: Annotated[str, Field(max_length=24)] = Field("0.00", description="Paid.")
    held: Annotated[str, Field(max_length=24)] = Field("0.00", description="Set aside for requests under way and for running jobs.")
    in_doubt: Annotated[str, Field(max_length=24)] = Field("0.00", description="Requests whose outcome is unknown, at their worst case.")
    remaining: Annotated[str, Field(max_length=24)] = Field(
        "0.00", description="limit - settled - held - inDoubt; 0 if the limit was lowered below that."
    )
    overrun: Annotated[str, Field(max_length=24)] = Field("0.00", description="Billed beyond what was held: a price or a bound was wrong.")
    resets: Time | None = Field(None, description="When the window ends; absent for total.")


class TeacherStatus(Model):
    """Whether a teacher can be asked."""

    name: Word = Field(description="As in spec.")
    ready: bool = Field(description="Whether requests are sent.")
    reason: Word = Field("Ready", description="CamelCase word for programs.")
    message: Message = Field("", description="What is wrong and what helps.")


class LedgerHead(Model):
    """The end of the chain of ledger entries when this was written."""

    sequence: int = Field(description="Number of the last entry.")
    head_digest: Annotated[str, Field(max_length=64)] = Field(description="sha256 of the last entry, which covers all before it.")
    observed_time: Time = Field(description="When the gateway was asked.")


class BudgetSummary(Model):
    """The window with the least left, for `kubectl get tb`."""

    window: Annotated[str, Field(max_length=24)] = Field(description="Its name.")
    limit: Annotated[str, Field(max_length=24)] = Field(description="Its bound.")
    used: Annotated[str, Field(max_length=24)] = Field(description="Paid or in doubt.")
    reserved: Annotated[str, Field(max_length=24)] = Field(description="Held for requests and jobs under way.")
    remaining: Annotated[str, Field(max_length=24)] = Field(description="Free.")
    resets: Time | None = Field(None, description="When it starts anew.")


class TeacherBudgetStatus(Model):
    """A snapshot, written every 15 to 30 seconds while something moves; the gateway's ledger is the truth."""

    observed_generation: int | None = Field(None, description="Generation of the spec that was last looked at; -1 before the first look.")
    conditions: Annotated[list[Condition], Field(max_length=8)] = Field(
        default=[], description="Ready, Exhausted, SoftLimitExceeded, MoneyInDoubt, Stalled.",
        json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["type"]},
    )  # fmt: skip
    summary: BudgetSummary | None = Field(None, description="The window with the least left.")
    windows: Annotated[list[Window], Field(max_length=8)] = Field(default=[], description="Every window that has a limit.")
    teachers: Annotated[list[TeacherStatus], Field(max_length=32)] = Field(
        default=[],
        description="Whether each can be asked.",
        json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"]},
    )
    saved: Annotated[str, Field(max_length=24)] | None = Field(None, description="US dollars that answers from the cache would have cost.")
    ledger: LedgerHead | None = Field(None, description="Where the ledger stood.")

"""The base of every model, and the string types that the API is made of."""

from __future__ import annotations

from decimal import Decimal
from typing import Annotated, Any, ClassVar, Self

from pydantic import BaseModel, ConfigDict, Field, GetJsonSchemaHandler, StringConstraints, model_validator
from pydantic.alias_generators import to_camel
from pydantic_core import CoreSchema

from .rules import VALIDATIONS, Refused, Rule, Spelling, validations

GROUP = "distillery.dev"
VERSION = "v1alpha1"
API_VERSION = f"{GROUP}/{VERSION}"


class Model(BaseModel):
    """Immutable, camelCase on the wire; unknown keys and values of another type are refused, as the API server does."""

    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True, extra="forbid", frozen=True, strict=True)
    #: Rules between the fields of the model.
    RULES: ClassVar[tuple[Rule, ...]] = ()

    @model_validator(mode="after")
    def _obey(self) -> Self:
        for rule in self.RULES:
            if not rule.holds(self):
                raise ValueError(rule.message)
        return self

    @classmethod
    def __get_pydantic_json_schema__(cls, schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        """The schema with the rules in CEL."""
        out = handler.resolve_ref_schema(handler(schema))
        if found := validations(cls.RULES):
            out[VALIDATIONS] = found
        return out

    def wire(self) -> dict[str, Any]:
        """The JSON form: camelCase, nothing that is None."""
        return self.model_dump(mode="json", by_alias=True, exclude_none=True)


_LABEL = r"[a-z0-9]([-a-z0-9]*[a-z0-9])?"
_SUBDOMAIN = r"[a-z0-9]([-a-z0-9.]*[a-z0-9])?"
_LABEL_WORDS = "must be lower-case letters, digits and '-', and begin and end with a letter or digit"
DnsLabel = Annotated[str, StringConstraints(max_length=63), Spelling(f"^{_LABEL}$", _LABEL_WORDS)]
ShortName = Annotated[str, StringConstraints(max_length=20), Spelling(f"^{_LABEL}$", _LABEL_WORDS)]
ObjectName = Annotated[
    str,
    StringConstraints(max_length=253),
    Spelling(f"^{_SUBDOMAIN}$", "must be the name of an object: lower-case letters, digits, '-' and '.', first and last a letter or digit"),
]
FieldName = Annotated[str, StringConstraints(min_length=1, max_length=63)]
Text = Annotated[str, StringConstraints(max_length=4096)]

_EXPONENT = r"([eE]-?[0-9]{1,2})?"
#: A non-negative decimal as a string: the API has no floats.
NonNegativeDecimal = Annotated[
    str,
    StringConstraints(max_length=24),
    Spelling(rf"^[0-9]+(\.[0-9]+)?{_EXPONENT}$", 'must be a decimal of at least 0, in quotes, for example "0.5"'),
]
#: A decimal in [0, 1].
Ratio = Annotated[
    str,
    StringConstraints(max_length=12),
    Spelling(r"^(0(\.[0-9]+)?|1(\.0+)?)$", 'must be a decimal between 0 and 1, in quotes, for example "0.03"'),
]
#: A decimal in [0, 1).
ProperFraction = Annotated[
    str,
    StringConstraints(max_length=12),
    Spelling(r"^0(\.[0-9]+)?$", 'must be a decimal of at least 0 and below 1, in quotes, for example "0.1"'),
]
#: A decimal above zero.
PositiveDecimal = Annotated[
    str,
    StringConstraints(max_length=24),
    Spelling(
        rf"^([0-9]*[1-9][0-9]*(\.[0-9]+)?|0*\.[0-9]*[1-9][0-9]*){_EXPONENT}$", 'must be a decimal above 0, in quotes, for example "0.0003"'
    ),
]

_PART = r"[A-Za-z0-9._@%+=:,/-]"
_BUCKET = r"s3://[A-Za-z0-9][A-Za-z0-9._-]{0,62}"
_CLAIM = rf"pvc://{_SUBDOMAIN}"
_STORE = rf"(({_BUCKET}|{_CLAIM})(/{_PART}*)?|file:///{_PART}+)"
_HUB = r"hf://[A-Za-z0-9._-]+/[A-Za-z0-9._-]+"
_NO_PARENT = Refused(
    r"(^|[/@])(\.|%2[Ee]){1,2}(/|$)",
    "must not climb with '..', or stand still with '.': write the path from the root of the bucket or claim",
)
_NOT_LOCAL = Refused(
    "^file:", "file:// is for a local run (`distill run`); in a cluster give s3://bucket/path or pvc://claim/path", locally=False
)
#: Where a model is read from; a Hugging Face repository may be pinned to a revision.
ModelURI = Annotated[
    str,
    StringConstraints(max_length=512),
    Spelling(
        rf"^({_STORE}|{_HUB}(@[A-Za-z0-9._/-]+)?)$",
        "must be hf://org/name, hf://org/name@revision, s3://bucket/folder or pvc://claim/folder",
    ),
    _NO_PARENT,
    _NOT_LOCAL,
]
#: Where rows are read from; a path inside a Hugging Face data set may follow its name.
DataURI = Annotated[
    str,
    StringConstraints(max_length=512),
    Spelling(
        rf"^({_STORE}|{_HUB}(@[A-Za-z0-9._-]+)?(/{_PART}+)?)$",
        "must be s3://bucket/path, pvc://claim/path, hf://org/dataset or hf://org/dataset@revision/path",
    ),
    _NO_PARENT,
    _NOT_LOCAL,
]
#: Where stages and results are written.
OutputURI = Annotated[
    str,
    StringConstraints(max_length=512),
    Spelling(
        rf"^(({_BUCKET}|{_CLAIM})|(({_BUCKET}|{_CLAIM})/|file:///){_PART}*[A-Za-z0-9._@%+=:,-])$",
        "must be s3://bucket/path or pvc://claim/path, without '/' at the end (hf:// can be read, not written)",
    ),
    _NO_PARENT,
    _NOT_LOCAL,
]


class LocalRef(Model):
    """The name of an object in the job's own namespace."""

    name: ObjectName = Field(description="Name of the object, in the namespace of the job.")


def number(value: str) -> float:
    """A validated decimal string as a float, for arithmetic that is not money."""
    return float(Decimal(value))

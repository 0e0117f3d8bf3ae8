"""The base of every model, and the string types that the API is made of."""

from __future__ import annotations

from decimal import Decimal
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, StringConstraints
from pydantic.alias_generators import to_camel

GROUP = "distillery.dev"
VERSION = "v1alpha1"
API_VERSION = f"{GROUP}/{VERSION}"


class Model(BaseModel):
    """Immutable, camelCase on the wire, unknown keys refused."""

    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True, extra="forbid", frozen=True)

    def wire(self) -> dict[str, Any]:
        """The JSON form: camelCase, nothing that is None."""
        return self.model_dump(mode="json", by_alias=True, exclude_none=True)


def rules(*validations: tuple[str, str]) -> dict[str, Any]:
    """CEL rules (expression, message) for a model's schema; see `crd` for how they reach the CRD."""
    return {"x-kubernetes-validations": [{"rule": rule, "message": message} for rule, message in validations]}


DnsLabel = Annotated[str, StringConstraints(pattern=r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$", max_length=63)]
ShortName = Annotated[str, StringConstraints(pattern=r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$", max_length=20)]
ObjectName = Annotated[str, StringConstraints(pattern=r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$", max_length=253)]
FieldName = Annotated[str, StringConstraints(min_length=1, max_length=63)]
Text = Annotated[str, StringConstraints(max_length=4096)]

#: A non-negative decimal as a string: the API has no floats.
NonNegativeDecimal = Annotated[str, StringConstraints(pattern=r"^[0-9]+(\.[0-9]+)?([eE]-?[0-9]{1,2})?$", max_length=24)]
#: A decimal in [0, 1].
Ratio = Annotated[str, StringConstraints(pattern=r"^(0(\.[0-9]+)?|1(\.0+)?)$", max_length=12)]
#: A decimal above zero.
PositiveDecimal = Annotated[
    str,
    StringConstraints(
        pattern=r"^([0-9]*[1-9][0-9]*(\.[0-9]+)?|0?\.[0-9]*[1-9][0-9]*|0\.[0-9]*[1-9][0-9]*)([eE]-?[0-9]{1,2})?$", max_length=24
    ),
]

PATH = r"[A-Za-z0-9._@%+=:,/-]"
#: Where a model is read from; a Hugging Face repository may be pinned to a revision.
ModelURI = Annotated[
    str, StringConstraints(pattern=rf"^((s3|pvc|file)://{PATH}+|hf://[A-Za-z0-9._-]+/[A-Za-z0-9._-]+(@[A-Za-z0-9._/-]+)?)$", max_length=512)
]
#: Where rows are read from; a path inside a Hugging Face data set may follow its name.
DataURI = Annotated[
    str,
    StringConstraints(
        pattern=rf"^((s3|pvc|file)://{PATH}+|hf://[A-Za-z0-9._-]+/[A-Za-z0-9._-]+(@[A-Za-z0-9._-]+)?(/{PATH}+)?)$", max_length=512
    ),
]
#: Where stages and results are written.
OutputURI = Annotated[str, StringConstraints(pattern=rf"^(s3|pvc|file)://{PATH}+[^/]$", max_length=512)]


class LocalRef(Model):
    """The name of an object in the job's own namespace."""

    name: ObjectName = Field(description="Name of the object, in the namespace of the job.")


def number(value: str) -> float:
    """A validated decimal string as a float, for arithmetic that is not money."""
    return float(Decimal(value))

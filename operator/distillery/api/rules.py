"""Rules that a schema alone cannot say, each written once for the API server (CEL) and once for those who have only the model.

The CRD carries the CEL; a local run, reconcile and the stages, which never see an API server, run the Python twin. The tests apply the
same bad manifests to both.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from pydantic import GetCoreSchemaHandler, GetJsonSchemaHandler
from pydantic_core import CoreSchema, core_schema

VALIDATIONS = "x-kubernetes-validations"


@dataclass(frozen=True)
class Rule:
    """A rule between the fields of one object; `message` says what to do, the path before it says where."""

    cel: str | None
    """None where the schema itself says it, as a list's keys do, and only the models need the rule."""
    message: str
    holds: Callable[[Any], bool]
    """Takes the model, whose fields are valid each by itself."""


def validations(rules: Iterable[Rule]) -> list[dict[str, str]]:
    """As x-kubernetes-validations."""
    return [{"rule": rule.cel, "message": rule.message} for rule in rules if rule.cel is not None]


@dataclass(frozen=True)
class Spelling:
    """The pattern of a string (or quantity) with words for people: a regular expression tells nobody what to write.

    Only syntax that RE2 shares. The CRD carries it as a rule in place of `pattern`, whose message would be the expression.
    """

    pattern: str
    message: str

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        """The string, then the pattern."""
        compiled = re.compile(self.pattern)

        def check(value: str | int) -> str | int:
            if compiled.fullmatch(str(value)) is None:
                raise ValueError(self.message)
            return value

        return core_schema.no_info_after_validator_function(check, handler(source))

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        """One more rule."""
        out = dict(handler(schema))
        out[VALIDATIONS] = [*out.get(VALIDATIONS, []), {"rule": f"self.matches(r'{self.pattern}')", "message": self.message}]
        return out


@dataclass(frozen=True)
class Refused:
    """A part that a string must not hold. `locally` tells whether a local run refuses it too."""

    pattern: str
    message: str
    locally: bool = True

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        """The string, then the part that is refused."""
        compiled = re.compile(self.pattern)

        def check(value: str) -> str:
            if self.locally and compiled.search(value):
                raise ValueError(self.message)
            return value

        return core_schema.no_info_after_validator_function(check, handler(source))

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        """One more rule."""
        out = dict(handler(schema))
        out[VALIDATIONS] = [*out.get(VALIDATIONS, []), {"rule": f"!self.matches(r'{self.pattern}')", "message": self.message}]
        return out

"""Regular expressions that users write, in linear time: RE2 runs them, so that none can hold a process (`^(a+)+$` did, at 26 characters).

They are written as Python's are, and mean the same: letters, digits and spaces are those of Unicode, and `$` stands before a last line
break too. What needs a search that may take for ever (look-ahead, look-behind, a group that is repeated) is refused.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Any, Final

import re2  # type: ignore[import-untyped]
from pydantic import GetCoreSchemaHandler
from pydantic_core import CoreSchema, core_schema

from .rules import Refused

#: As str.isalnum, str.isdecimal and str.isspace say, for use inside brackets.
_WORD, _SPACE = r"\pL\pN_", r"\s\v\x1c-\x1f\x{85}\pZ"
_OUTSIDE: Final = {
    "w": f"[{_WORD}]", "W": f"[^{_WORD}]", "s": f"[{_SPACE}]", "S": f"[^{_SPACE}]", "d": r"\p{Nd}", "D": r"\P{Nd}", "Z": r"\z",
}  # fmt: skip
_INSIDE: Final = {"w": _WORD, "s": _SPACE, "d": r"\p{Nd}", "D": r"\P{Nd}", "b": r"\x08"}
_PIECE: Final = re.compile(r"\\u([0-9a-fA-F]{4})|\\U([0-9a-fA-F]{8})|\\(.)|\{,(\d+)\}|(\[\^?\]?)|(.)", re.DOTALL)
_MULTILINE: Final = re.compile(r"\(\?[a-zA-Z]*m")
LINEAR: Final = (
    Refused(
        r"\(\?(<?[=!]|P=|>|\()",
        "must not look ahead or behind, nor hold a condition: it runs in linear time (RE2); write what surrounds the answer into the"
        " expression, outside of the group",
    ),
    Refused(
        r"(^|[^\\])(\\\\)*\\[1-9]",
        "must not repeat what a group has found: it runs in linear time (RE2), which keeps no such memory; write it out",
    ),
    Refused(
        r"\\[bB](.|\n)*[^\x00-\x7F]|[^\x00-\x7F](.|\n)*\\[bB]",
        r"must not hold \b beside letters other than ASCII's, which it does not know: write (?:^|[^\pL]) or (?:[^\pL]|$) in its place",
    ),
)


@lru_cache(maxsize=64)
def compiled(pattern: str) -> Any:
    """RE2's own object: `finditer`, `search`, `groups`. ValueError, which tells what is wrong, where RE2 cannot take it."""
    options = re2.Options()
    options.log_errors = False
    try:
        return re2.compile(_of_re2(pattern), options)
    except re2.error as error:
        told = error.args[0].decode(errors="replace") if isinstance(error.args[0], bytes) else error.args[0]
        raise ValueError(f"is no regular expression of RE2 ({told}); correct it") from error


def encodable(text: str) -> str:
    """The text without halves of surrogate pairs, which RE2 cannot be given."""
    return text.encode(errors="replace").decode()


def knows_ascii_words_alone(pattern: str) -> bool:
    r"""Whether it rests on `\b`, which RE2 sees between ASCII letters and digits alone."""
    return re.search(r"(^|[^\\])(\\\\)*\\[bB]", pattern) is not None


def _of_re2(pattern: str) -> str:
    parts, in_class = [], False
    end = "$" if _MULTILINE.search(pattern) else r"(?:\n?\z)"
    for match in _PIECE.finditer(pattern):
        short, long, escaped, most, opening, letter = match.groups()
        if short or long:
            parts.append(rf"\x{{{short or long}}}")
        elif escaped:
            parts.append((_INSIDE if in_class else _OUTSIDE).get(escaped, match[0]))
        elif most:
            parts.append(match[0] if in_class else f"{{0,{most}}}")
        elif opening:
            parts.append(opening.replace("[", r"\[") if in_class else opening.replace("]", r"\]"))
            in_class = not in_class or not opening.endswith("]")
        else:
            parts.append(end if letter == "$" and not in_class else letter)
            in_class = in_class and letter != "]"
    return "".join(parts)


class AnswerPattern:
    """An expression with a group, which holds the answer."""

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        """The string, then the engine."""

        def check(value: str) -> str:
            if not compiled(value).groups:
                raise ValueError("has no group; put the answer's part in parentheses")
            return value

        return core_schema.no_info_after_validator_function(check, handler(source))

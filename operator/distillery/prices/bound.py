"""How many tokens a prompt can be, without its tokenizer."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable
from typing import Final

from distillery.api.budget import BudgetTeacher

from .templates import added_by

#: Tokens around each message; of the templates measured (`templates`) none has more than 10.
MESSAGE_TOKENS: Final = 16


def template_tokens(teacher: BudgetTeacher, messages: int) -> int:
    """What a teacher's chat template may add to the texts of so many messages."""
    added = teacher.template_tokens if teacher.template_tokens is not None else added_by(teacher.model)
    return added + MESSAGE_TOKENS * messages


def most_tokens(texts: Iterable[str]) -> int:
    """No tokenizer makes more tokens than there are bytes; some normalise first, and that can lengthen a text."""
    total = 0
    for text in texts:
        total += len(text) if text.isascii() else max(_bytes(text), _bytes(unicodedata.normalize("NFKC", text)))
    return total


def _bytes(text: str) -> int:
    # a lone surrogate can stand in JSON, but in no UTF-8; it takes three bytes
    return len(text.encode("utf-8", "surrogatepass"))

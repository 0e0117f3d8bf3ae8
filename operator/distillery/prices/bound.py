"""How many tokens a prompt can be, without its tokenizer."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable
from typing import Final

#: Tokens that a chat template may add by itself: a default system prompt, dates, markers of roles (the longest known, of gpt-oss, is 90).
TEMPLATE_TOKENS: Final = 160
#: Tokens around each message.
MESSAGE_TOKENS: Final = 16


def template_tokens(messages: int) -> int:
    """What a chat template may add to the texts of so many messages."""
    return TEMPLATE_TOKENS + MESSAGE_TOKENS * messages


def most_tokens(texts: Iterable[str]) -> int:
    """No tokenizer makes more tokens than there are bytes; some normalise first, and that can lengthen a text."""
    total = 0
    for text in texts:
        total += len(text) if text.isascii() else max(_bytes(text), _bytes(unicodedata.normalize("NFKC", text)))
    return total


def _bytes(text: str) -> int:
    # a lone surrogate can stand in JSON, but in no UTF-8; it takes three bytes
    return len(text.encode("utf-8", "surrogatepass"))

"""What a reasoning model thought, kept apart from what it answered.

Markers other than <think> are left alone: prompts ask for <reasoning> or <thinking> blocks, which then are the answer.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

_OPEN, _CLOSE = "<think>", "</think>"
#: A tag that stands alone on its line.
_CLOSE_LINE = re.compile(r"^[^\S\n]*</think>[^\S\n]*$", re.MULTILINE)
#: Kinds of content parts that hold thoughts (Mistral's and Anthropic's `thinking`, others' `reasoning`).
_THOUGHTS = ("thinking", "reasoning")


def split_reasoning(text: str, given: Any = None) -> tuple[str, str | None]:
    """(answer, reasoning), whether the server parted them or left the thoughts in a <think> block before the answer.

    The block may lack its opening tag, which some chat templates put at the end of the prompt; then its closing tag counts only on a line
    of its own, since an answer may speak of the tag. The white space between thoughts and answer belongs to neither.
    """
    opened = text.lstrip().startswith(_OPEN)
    if isinstance(given, str) and given.strip():
        # some servers give the thoughts twice
        return (_opened(text)[0] if opened else text.lstrip()), given
    return _opened(text) if opened else _unopened(text)


def thoughts_of(message: Mapping[str, Any]) -> str | None:
    """Thoughts that a server gives in a field of their own, or as parts of the content."""
    for name in ("reasoning_content", "reasoning"):
        if isinstance(found := message.get(name), str) and found.strip():
            return found
    content = message.get("content")
    parts = [part for part in content if isinstance(part, Mapping)] if isinstance(content, list) else []
    found = "".join(_said(part[kind]) for part in parts for kind in _THOUGHTS if part.get("type") == kind and kind in part)
    return found if found.strip() else None


def _said(thought: Any) -> str:
    """A text, or a list of parts with one each."""
    if isinstance(thought, list):
        return "".join(_said(part.get("text")) for part in thought if isinstance(part, Mapping))
    return thought if isinstance(thought, str) else ""


def _opened(text: str) -> tuple[str, str | None]:
    block = text.lstrip().removeprefix(_OPEN)
    # thoughts may speak of the tag too: where the block begins with a line of its own, it ends with one
    found = _CLOSE_LINE.search(block) if block.lstrip(" \t").startswith(("\n", "\r")) else None
    start, end = found.span() if found else (at := block.find(_CLOSE), at + len(_CLOSE))
    if start < 0:
        return "", block.strip()
    return block[end:].lstrip(), block[:start].strip() or None


def _unopened(text: str) -> tuple[str, str | None]:
    found = _CLOSE_LINE.search(text)
    if found is None or _OPEN in text[: found.start()]:
        return text, None
    return text[found.end() :].lstrip(), text[: found.start()].strip() or None

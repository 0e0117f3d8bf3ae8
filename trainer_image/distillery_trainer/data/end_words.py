"""Names of end tokens that some servers, and some data sets, leave at the end of an answer."""

from __future__ import annotations

import re
from collections.abc import Iterable

#: Of the public chat models; no text ends with one by chance.
KNOWN = (
    "<|im_end|>", "<|endoftext|>", "<|end_of_text|>", "<|eot_id|>", "<|eom_id|>", "<|eot|>", "<|end|>", "<|return|>", "<|end_of_turn|>",
    "<|END_OF_TURN_TOKEN|>", "<end_of_turn>", "<\uff5cend\u2581of\u2581sentence\uff5c>", "<eos>", "</s>",
)  # fmt: skip


def without_end_words(text: str, words: Iterable[str] = KNOWN) -> str:
    """The text up to those of `words` that it ends with; else the text as it is.

    A word like </s> stays where it closes what stands open before it: <s>red 20</s> is HTML.
    """
    names = "|".join(re.escape(word) for word in words if word.strip())
    found = re.search(rf"(?:(?:{names})\s*)+\Z", text) if names else None
    if found is None:
        return text
    kept = text[: found.start()]
    for part in re.finditer(rf"({names})\s*", found.group()):
        name = part.group(1)
        if not name.startswith("</") or kept.count(f"<{name[2:]}") <= kept.count(name):
            break
        kept += part.group()
    return kept

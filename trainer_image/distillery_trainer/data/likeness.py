"""When two texts are the same to a reader. What differs to one is never joined: 5² is not 52, -5 not 5, ½ not 1/2, ß not ss."""

from __future__ import annotations

import re
import textwrap
import unicodedata
from collections.abc import Hashable, Iterator, Sequence

from distillery.api.rows import Prompt

#: Ways of writing the same letter: width, non-breaking, the place in a word (Arabic). Raised, circled or mathematical letters are others.
_SHAPES = ("<wide>", "<narrow>", "<small>", "<noBreak>", "<initial>", "<medial>", "<final>", "<isolated>")
#: Latin and Armenian ligatures: ﬁ is fi.
_LIGATURES = (*range(0xFB00, 0xFB07), *range(0xFB13, 0xFB18))
_QUOTES = "\"'`\u2018\u2019\u201c\u201d\u00ab\u00bb"
#: Marks behind a word, and those before one.
_BEHIND, _BEFORE = ".,;:!?\u2026\u3001\u3002", "\u00bf\u00a1"

#: f' and f(x)'' are derivatives; behind a word of several letters the mark is a quotation's or an apostrophe.
_PRIMED = re.compile(r"(?:[^\W\d_]|.*[)\]])['\u2019]+")


def _same_letters() -> dict[int, str]:
    found = {}
    for code in (0x2011, 0x3000, *range(0xFB00, 0xFFF0)):
        kind, *letters = unicodedata.decomposition(chr(code)).split() or ("",)
        if kind in _SHAPES or code in _LIGATURES:
            found[code] = "".join(chr(int(letter, 16)) for letter in letters)
    return found


_LETTERS = _same_letters()


def folded(text: str) -> str:
    """The text in one composition (NFC), and each letter in its common shape."""
    return unicodedata.normalize("NFC", text.translate(_LETTERS))


def normalized(prompt: Prompt) -> Hashable:
    """One form for texts that differ in composition, width or superfluous white space alone.

    Lines and their indentation are kept, since they mean something in code and tables.
    """
    if isinstance(prompt, str):
        return _lines(prompt)
    return tuple((message["role"], _lines(message["content"])) for message in prompt)


def words(texts: Sequence[str]) -> Iterator[str]:
    """The words of some texts in lower case, without the punctuation of sentences; signs of arithmetic and of units are part of them."""
    for text in texts:
        yield from filter(None, map(_bare, folded(text).lower().split()))


def _lines(text: str) -> str:
    lines = textwrap.dedent("\n".join(folded(text).expandtabs().splitlines())).splitlines()
    kept = [" " * (len(line) - len(line.lstrip())) + " ".join(line.split()) if line.strip() else "" for line in lines]
    # several blank lines in a row are one
    return "\n".join(line for line, before in zip(kept, ["", *kept], strict=False) if line or before)


def _bare(word: str) -> str:
    inner = word.rstrip(_BEHIND)
    if len(inner) > 1 and inner[0] in _QUOTES and inner[-1] in _QUOTES:
        inner = inner[1:-1].rstrip(_BEHIND)
    if len(inner) > 1 and not any(letter.isdigit() for letter in inner) and not _PRIMED.fullmatch(inner):
        return inner.strip(_QUOTES).rstrip(_BEHIND).lstrip(_BEFORE)
    # 5! and x! are not 5 and x
    return inner + "!" if inner and word[len(inner) :].startswith("!") else inner

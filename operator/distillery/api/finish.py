"""How an answer of a teacher ended, by the word that its server has for it: read in one way by the gateway and by the trainer."""

from __future__ import annotations

from typing import Final, Literal

Ending = Literal["whole", "cut", "refused", "unanswered"]
_WHOLE: Final = frozenset(("", "stop", "eos", "eos_token", "end_turn", "stop_sequence"))
_REFUSED: Final = frozenset(("content_filter", "refusal"))
#: Parts of the words for "too long": length, max_tokens, MAX_TOKENS, model_length, model_context_window_exceeded.
_CUT: Final = ("length", "max", "window")


def ending(finish_reason: object) -> Ending:
    """What a `finish_reason` says. Only a word that is known to mean the end, or none at all, makes a whole answer.

    `refused` is the teacher's or its provider's own word for no. Whatever else is said (SAFETY, tool_calls, error …) is no answer.
    """
    if finish_reason is None:
        return "whole"
    word = finish_reason.strip().lower() if isinstance(finish_reason, str) else repr(finish_reason)
    if word in _WHOLE:
        return "whole"
    if word in _REFUSED:
        return "refused"
    return "cut" if any(part in word for part in _CUT) else "unanswered"

"""How answers ended: an allow-list, so that a server's new word for "no" is never learned from."""

import pytest

from distillery.api.finish import Ending, ending


@pytest.mark.parametrize(
    ("word", "means"),
    [
        (None, "whole"),
        ("", "whole"),
        ("stop", "whole"),
        ("STOP", "whole"),
        ("eos", "whole"),
        ("eos_token", "whole"),
        ("end_turn", "whole"),
        ("stop_sequence", "whole"),
        ("length", "cut"),
        ("max_tokens", "cut"),
        ("MAX_TOKENS", "cut"),
        ("model_length", "cut"),
        ("model_context_window_exceeded", "cut"),
        ("content_filter", "refused"),
        ("Refusal", "refused"),
        ("SAFETY", "unanswered"),
        ("sensitive", "unanswered"),
        ("tool_calls", "unanswered"),
        ("error", "unanswered"),
        ("no-such-word", "unanswered"),
        (7, "unanswered"),
        (True, "unanswered"),
        (["stop"], "unanswered"),
    ],
)
def test_how_an_answer_ended(word: object, means: Ending) -> None:
    assert ending(word) == means

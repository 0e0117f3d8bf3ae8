"""The one place that knows how long a sequence a model can see."""

from __future__ import annotations

from transformers import PreTrainedConfig

#: More than any sequence: models without positions that run out (ALiBi, state space) have this.
UNLIMITED = 1 << 30
#: What families call it; transformers maps most names of its own configs to the first.
_NAMES = ("max_position_embeddings", "n_positions", "max_seq_len", "n_ctx")


def position_limit(config: PreTrainedConfig) -> int:
    """Longest sequence that a model can see, in tokens; UNLIMITED where its configuration names none."""
    text = config.get_text_config()
    found = (getattr(text, name, None) for name in _NAMES)
    # XLNet says -1
    return next((int(value) for value in found if value and value > 0), UNLIMITED)

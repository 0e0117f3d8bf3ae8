"""What the chat templates of public models add to a prompt by themselves: default system prompts, dates, markers of roles.

Measured on the templates that llama.cpp carries (`models/templates` of the source of llama-cpp-python 0.3.36), each rendered with one user
message, with and without a system one, and counted with the vocabularies of GPT-2 (byte-level) and Phi-3 (SentencePiece). These know none
of the models' markers, so each counts as several tokens; the larger count stands here, a quarter or more above it in the table.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Final

#: Of a model that is not in the table; the longest template measured (Devstral's) adds 1403.
UNKNOWN: Final = 2048
#: How a model's name begins, without the organisation before its last '/'; the longest beginning counts.
_ADDED: Final = {
    "devstral": 1792,  # 1403
    "gigachat": 1536,  # 1176
    "command": 1024,  # c4ai-command-r7b: 706
    "c4ai-command": 1024,
    "mistral-small": 768,  # 583
    "smollm3": 448,  # 324
    "cohere2": 448,  # 313
    "minimax": 320,  # 252
    "functionary": 320,  # 212
    "kimi": 320,  # 205
    "ministral-3": 256,  # 168
    "gpt-oss": 192,  # 136
    "granite": 192,  # 132
    # nothing was measured above 125: Llama 3.1 to 3.3 have 121, Qwen 2.5 68, Gemma 4 52, DeepSeek V3 39
    "llama-3": 160,
    "meta-llama-3": 160,
    "qwen2.5": 160,
    "qwen3": 160,
    "qwq": 160,
    "gemma-2": 160,
    "gemma-4": 160,
    "deepseek": 160,
    "glm-4": 160,
    "phi-3.5": 160,
    "mistral-nemo": 160,
    "nvidia-nemotron": 160,
    "apertus": 160,
    "solar-open": 160,
    "seed-oss": 160,
    "lfm2": 160,
    # OpenAI documents three tokens a message and three for the answer's beginning
    "gpt-": 160,
    "chatgpt": 160,
    "o1": 160,
    "o3": 160,
    "o4": 160,
}


@lru_cache(maxsize=1024)
def added_by(model: str) -> int:
    """Tokens that the chat template of a model may add, its markers of single messages aside."""
    name = model.rpartition("/")[2].lower()
    begins = max((beginning for beginning in _ADDED if name.startswith(beginning)), key=len, default=None)
    return UNKNOWN if begins is None else _ADDED[begins]

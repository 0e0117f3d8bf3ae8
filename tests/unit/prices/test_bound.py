"""How many tokens a chat template may add."""

import pytest

from distillery.api.budget import BudgetTeacher
from distillery.prices.bound import MESSAGE_TOKENS, template_tokens
from distillery.prices.templates import UNKNOWN, added_by

#: Tokens that a template was measured to add to one user message (see `prices/templates.py`).
MEASURED = {
    "mistralai/Devstral-Small-2507": 1403,
    "ai-sage/GigaChat3-10B-A1.8B": 1176,
    "CohereForAI/c4ai-command-r7b-12-2024": 706,
    "command-a-03-2025": 706,
    "mistralai/Mistral-Small-3.2-24B-Instruct-2506": 583,
    "HuggingFaceTB/SmolLM3-3B": 324,
    "MiniMaxAI/MiniMax-M3": 252,
    "openai/gpt-oss-120b": 136,
    "ibm-granite/granite-3.3-2b-instruct": 132,
    "meta-llama/Llama-3.3-70B-Instruct": 121,
    "Qwen/Qwen2.5-7B-Instruct": 68,
}


@pytest.mark.parametrize(("model", "tokens"), MEASURED.items())
def test_the_bound_of_a_known_model_is_above_what_was_measured(model: str, tokens: int) -> None:
    assert tokens * 1.15 < added_by(model) < UNKNOWN


@pytest.mark.parametrize("model", ["arithmetic", "my-llama-3", "gpt", "", "org/"])
def test_a_model_that_nobody_knows_may_add_more_than_any_that_was_measured(model: str) -> None:
    assert added_by(model) == UNKNOWN > 1.4 * max(MEASURED.values())


@pytest.mark.parametrize(("given", "tokens"), [(None, 160), (0, 0), (9000, 9000)])
def test_a_budget_says_it_better(given: int | None, tokens: int) -> None:
    prices = {"inputPerMillion": "0", "outputPerMillion": "0"}
    spec = {
        "name": "t",
        "baseURL": "https://api.openai.com/v1",
        "model": "gpt-4.1-mini-2025-04-14",
        "prices": prices,
        "templateTokens": given,
    }
    assert template_tokens(BudgetTeacher.model_validate(spec), 3) == tokens + 3 * MESSAGE_TOKENS

"""What is asked of the teacher: one request per row, in an order that all shards share."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from distillery.api.base import number
from distillery.api.job import DistillationJobSpec
from distillery.api.teacher import TeacherEndpoint
from distillery_trainer.data.examples import Example
from distillery_trainer.data.rows import Row

CHAT, TEXT = "/v1/chat/completions", "/v1/completions"


@dataclass(frozen=True)
class Ask:
    """A request: row number `at` of all that are asked. Training rows get `samples` answers, held-out rows a greedy one."""

    at: int
    row: Row
    held_out: bool
    samples: int

    def request(self, spec: DistillationJobSpec, endpoint: TeacherEndpoint) -> tuple[str, dict[str, Any]]:
        """Path and body. A string prompt goes as plain text where the student has no chat template, else as the user's message.

        What equals the API's own default is left out: some models take no other value and refuse the field.
        """
        sampling = endpoint.sampling
        plain = spec.data.chat_template == "none" and isinstance(self.row.prompt, str)
        tokens = spec.evaluation.generation.max_new_tokens if self.held_out else sampling.max_completion_tokens
        temperature = 0.0 if self.held_out else number(sampling.temperature)
        body: dict[str, Any] = {"model": endpoint.teacher}
        if plain:
            body |= {"prompt": self.row.prompt, "max_tokens": tokens}
        else:
            body |= {"messages": messages(self.row), "max_completion_tokens": tokens}
        if temperature != 1.0:
            body["temperature"] = temperature
        if number(sampling.top_p) != 1.0 and not self.held_out:
            body["top_p"] = number(sampling.top_p)
        if self.samples > 1:
            body["n"] = self.samples
        if sampling.stop:
            body["stop"] = list(sampling.stop)
        if sampling.seed is not None:
            body["seed"] = sampling.seed
        if sampling.top_logprobs and not self.held_out:
            body |= {"logprobs": sampling.top_logprobs} if plain else {"logprobs": True, "top_logprobs": sampling.top_logprobs}
        return (TEXT if plain else CHAT), body

    def row_id(self, sample: int) -> str:
        """The name of a sample's row."""
        return self.row.id if self.samples == 1 else f"{self.row.id}#{sample}"


def messages(row: Row) -> list[dict[str, str]]:
    """The prompt as messages."""
    return [{"role": "user", "content": row.prompt}] if isinstance(row.prompt, str) else [dict(message) for message in row.prompt]


def planned(train: Sequence[Example], held: Sequence[Example], endpoint: TeacherEndpoint) -> list[Ask]:
    """Training rows without a completion, then every held-out row."""
    missing = [example.row for example in train if example.row.completion is None]
    asks = [Ask(at, row, False, endpoint.sampling.samples) for at, row in enumerate(missing)]
    return asks + [Ask(len(missing) + at, example.row, True, 1) for at, example in enumerate(held)]


def mine(asks: Sequence[Ask], shard: int, shards: int) -> list[Ask]:
    """The part of one shard: every shards-th row, so that long and short ones are spread."""
    return [ask for ask in asks if ask.at % shards == shard]

"""Several answers to one row: asked for at once, and singly where a server gives fewer than it was asked for."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from typing import Any

from .gateway import Reply, Unanswered

#: Sends (body, sample): the number of the sample tells the gateway that an equal question wants another answer.
Send = Callable[[Mapping[str, Any], int], Awaitable[Reply]]


async def with_all_samples(send: Send, body: Mapping[str, Any], samples: int) -> Reply:
    """The reply to `body`, which asks for `samples` answers. Some servers know no `n` and give one: the others are asked for one by one.

    With a seed each gets its own, since the same seed would give the same text.
    """
    reply = await send(body, 0)
    choices = list(reply.body["choices"])
    if not choices:
        return reply
    single = {name: value for name, value in body.items() if name != "n"}
    for sample in range(len(choices), samples):
        more = await send({**single, "seed": body["seed"] + sample} if "seed" in body else single, sample)
        choices += [{**choice, "index": sample} for choice in more.body["choices"][:1]]
        reply = _joined(reply, more)
    return replace(reply, body={**reply.body, "choices": choices})


async def as_greedy_as_it_gets(send: Send, body: Mapping[str, Any]) -> Reply:
    """The reply to a question at temperature 0. Some reasoning models refuse that field whatever it says: they are asked without it."""
    try:
        return await send(body, 0)
    except Unanswered as refusal:
        if "temperature" not in body or "temperature" not in refusal.message.lower():
            raise
    return await send({name: value for name, value in body.items() if name != "temperature"}, 0)


def _joined(one: Reply, other: Reply) -> Reply:
    terms = tuple(dict.fromkeys((*one.terms, *other.terms)))
    return replace(one, requests=one.requests + other.requests, hits=one.hits + other.hits, cost=one.cost + other.cost, terms=terms)

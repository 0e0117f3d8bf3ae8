"""Several answers to one row: asked for at once, and singly where a server gives fewer than it was asked for."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from .gateway import Reply, Unanswered

#: Sends (body, sample): the number of the sample tells the gateway that an equal question wants another answer.
Send = Callable[[Mapping[str, Any], int], Awaitable[Reply]]


@dataclass
class SoFar:
    """What has come of the answers to one row. It outlives an attempt: a wait or a doubt on the way to the next loses none that is paid."""

    reply: Reply | None = None
    asked: int = 0


async def with_all_samples(send: Send, body: Mapping[str, Any], samples: int, so_far: SoFar) -> Reply:
    """The reply to `body`, which asks for `samples` answers. Some servers know no `n` and give one: the others are asked for one by one.

    With a seed each gets its own, since the same seed would give the same text.
    """
    if so_far.reply is None:
        first = await send(body, 0)
        choices = [choice for choice in first.body["choices"] if isinstance(choice, Mapping)]
        if not choices or len(choices) >= samples:
            return first
        # the numbers of a server that knows no `n` say nothing
        numbered = [{**choice, "index": at} for at, choice in enumerate(choices)]
        so_far.reply, so_far.asked = replace(first, body={**first.body, "choices": numbered}), len(choices)
    single = {name: value for name, value in body.items() if name != "n"}
    while so_far.asked < samples:
        sample = so_far.asked
        more = await send({**single, "seed": body["seed"] + sample} if "seed" in body else single, sample)
        so_far.reply, so_far.asked = _joined(so_far.reply, more, sample), sample + 1
    return so_far.reply


async def as_greedy_as_it_gets(send: Send, body: Mapping[str, Any]) -> Reply:
    """The reply to a question at temperature 0. Some reasoning models refuse that field whatever it says: they are asked without it."""
    try:
        return await send(body, 0)
    except Unanswered as refusal:
        if "temperature" not in body or "temperature" not in refusal.message.lower():
            raise
    return await send({name: value for name, value in body.items() if name != "temperature"}, 0)


def _joined(one: Reply, other: Reply, sample: int) -> Reply:
    """The first choice of the other, as number `sample`, beside those of the one."""
    found = [{**choice, "index": sample} for choice in other.body["choices"] if isinstance(choice, Mapping)][:1]
    return replace(
        one,
        body={**one.body, "choices": [*one.body["choices"], *found]},
        requests=one.requests + other.requests,
        hits=one.hits + other.hits,
        cost=one.cost + other.cost,
        terms=tuple(dict.fromkeys((*one.terms, *other.terms))),
    )

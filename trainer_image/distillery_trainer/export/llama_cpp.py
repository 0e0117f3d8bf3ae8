"""Runs a GGUF file in llama.cpp, through its own server on a free loopback port."""

from __future__ import annotations

import http.client
import json
import re
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from urllib.parse import urlsplit

import xllamacpp  # type: ignore[import-untyped]

from distillery.api import reasons
from distillery_trainer.errors import StageError
from distillery_trainer.models.device import cpu_limit

#: Rows decoded together. More do not help where two cores are busy with four.
SLOTS = 4
_GREEDY = {"temperature": 0, "top_k": 1, "samplers": ["top_k"], "repeat_penalty": 1.0, "cache_prompt": False}


#: Loads a file as quietly as it goes, in a process of its own: llama.cpp says why it refuses one on the process's standard error alone.
_LOAD = """import sys, xllamacpp
params = xllamacpp.CommonParams()
params.model.path, params.n_gpu_layers, params.verbosity = sys.argv[1], 0, 1
params.fit_params = params.warmup = params.ui = False
try:
    xllamacpp.Server(params)
except RuntimeError:
    sys.exit(1)
"""
_REASON = re.compile(r"error loading model: (.+)")


def refusal(file: Path) -> str | None:
    """Why llama.cpp does not load a file, in its own words; None where it does, or says nothing."""
    tried = subprocess.run([sys.executable, "-c", _LOAD, str(file)], capture_output=True, text=True, errors="replace", check=False)
    found = _REASON.search(tried.stderr + tried.stdout)
    return found[1].strip()[:300] if found else None


class LlamaCpp:
    """A loaded GGUF file. `context` is the longest prompt with its answer, in tokens.

    The cache of keys and values is F32 and flash attention is off: what is measured is then the file alone, not a rounding of the cache.
    """

    name = f"llama.cpp (xllamacpp {xllamacpp.__version__})"

    def __init__(self, file: Path, context: int, slots: int = SLOTS) -> None:
        params = xllamacpp.CommonParams()
        params.model.path = str(file)
        params.n_parallel, params.n_ctx = slots, slots * (context + 8)
        params.cpuparams.n_threads = params.cpuparams_batch.n_threads = cpu_limit()
        params.cpuparams.poll = params.cpuparams_batch.poll = 0  # threads that wait sleep: other pods share these CPUs
        params.cache_type_k = params.cache_type_v = xllamacpp.ggml_type.GGML_TYPE_F32
        params.flash_attn_type = xllamacpp.llama_flash_attn_type.LLAMA_FLASH_ATTN_TYPE_DISABLED
        params.cache_prompt, params.cache_ram_mib, params.n_ctx_checkpoints = False, 0, 0
        params.fit_params = params.warmup = params.ui = False
        params.n_gpu_layers, params.verbosity = 0, -1
        try:
            self._server = xllamacpp.Server(params)
        except RuntimeError as error:
            text = f"llama.cpp cannot load {file.name}: {refusal(file) or error}"
            raise StageError(reasons.MODEL_UNREADABLE, text) from error
        self._slots = slots
        self._address = urlsplit(self._server.listening_address)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Stop the server and free the model."""
        del self._server

    def answer(
        self, prompts: Sequence[Sequence[int]], max_new_tokens: int, on_rows: Callable[[int], None] | None = None
    ) -> list[list[int]]:
        """Greedy completions (token ids, with the token that ended them) of prompts of token ids."""
        answers: list[list[int]] = []
        for start in range(0, len(prompts), self._slots * 4):
            rows = [list(prompt) for prompt in prompts[start : start + self._slots * 4]]
            request = {**_GREEDY, "prompt": rows, "n_predict": max_new_tokens, "return_tokens": True}
            replies = self.post("/completion", request)
            replies = [replies] if isinstance(replies, dict) else sorted(replies, key=lambda reply: reply["index"])
            answers += [list(reply["tokens"]) for reply in replies]
            if on_rows:
                on_rows(len(answers))
        return answers

    def next_logprobs(self, prompt: Sequence[int], top: int) -> dict[int, float]:
        """The `top` likeliest next tokens after a prompt, with their natural log probabilities."""
        # The server reports nothing for an end of text or half a character, so a letter is forced; what it reports is from before that.
        letter = self.tokenize("a")[-1]
        request = {**_GREEDY, "prompt": list(prompt), "n_predict": 1, "n_probs": top, "logit_bias": [[letter, 1e4]]}
        first = self.post("/completion", request)["completion_probabilities"][0]
        return {entry["id"]: entry["logprob"] for entry in first["top_logprobs"]}

    def tokenize(self, text: str) -> list[int]:
        """Token ids of a text, special tokens recognised, bos and eos as the file says."""
        return list(self.post("/tokenize", {"content": text, "add_special": True, "parse_special": True})["tokens"])

    def render(self, messages: Sequence[Mapping[str, str]]) -> str:
        """The prompt that the file's own chat template makes of a conversation."""
        return str(self.post("/apply-template", {"messages": list(messages)})["prompt"])

    def post(self, path: str, body: Mapping[str, Any]) -> Any:
        """A request to the server; StageError with its words if it refuses."""
        connection = http.client.HTTPConnection(str(self._address.hostname), int(self._address.port or 0))
        try:
            connection.request("POST", path, json.dumps(body), {"Content-Type": "application/json"})
            reply = connection.getresponse()
            text = reply.read()
        finally:
            connection.close()
        if reply.status != http.HTTPStatus.OK:
            raise StageError(reasons.INTERNAL_ERROR, f"llama.cpp refused {path} with {reply.status}: {text[:500].decode(errors='replace')}")
        return json.loads(text)

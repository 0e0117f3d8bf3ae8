"""A request for completions, read and bounded: what is passed on, what it can cost at most, and what its answer is filed under."""

from __future__ import annotations

import json
from dataclasses import dataclass
from hashlib import sha256
from typing import Any, Final, Literal

from distillery.api.budget import BudgetTeacher
from distillery.prices.bound import most_tokens, template_tokens

from .errors import MODEL_NOT_FOUND, Refused, invalid, shown
from .parameters import CHAT, TEXT, boolean, checked, conversation, integer, named
from .parsing import TooMuch, counted

Route = Literal["chat/completions", "completions"]
ROUTES: Final[tuple[Route, ...]] = ("chat/completions", "completions")
_BOUNDS: Final = ("max_completion_tokens", "max_tokens")
#: A conversation of some thousand messages has fewer values; a JSON Schema is rarely nested deeper than 20.
_VALUES: Final = 50_000
_LEVELS: Final = 64
_OWN: Final = frozenset(("model", "messages", "prompt", "stream", "stream_options", *_BOUNDS))


@dataclass(frozen=True, slots=True)
class Question:
    """What one request asks. `body` goes to the teacher; it lacks `stream`, which is no part of the question."""

    route: Route
    body: dict[str, Any]
    stream: bool
    usage_chunk: bool
    """Whether the client itself asked for the usage at the end of a stream."""
    n: int
    sample: int
    input_tokens: int
    """Upper bound."""
    output_tokens: int
    """Upper bound, of each of the n answers."""

    @property
    def tokens(self) -> int:
        """Upper bound of input and output together; servers differ in whether they bill the prompt once or for each answer."""
        return self.n * (self.input_tokens + self.output_tokens)

    def encoded(self, streamed: bool) -> bytes:
        """The body as it is sent."""
        body = {**self.body, "stream": True, "stream_options": {"include_usage": True}} if streamed else self.body
        return json.dumps(body, ensure_ascii=False, separators=(",", ":")).encode()

    def key(self, base_url: str, credential: str | None, scope: str) -> str:
        """sha256 of all that decides the answer; `scope` is who may be given it again."""
        identity = [base_url, credential, scope, self.route, self.sample, self.body]
        return sha256(json.dumps(identity, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def read_question(route: Route, raw: bytes, teacher: BudgetTeacher, sample: str | None) -> Question:
    """The question in the body of a request. Refused, naming the parameter."""
    given = _object(raw)
    if given.get("model") != teacher.name:
        text = f"model: {shown(given.get('model'))} is not {teacher.name!r}, the teacher of this job (spec.teacher.endpoint.teacher)"
        raise Refused(404, MODEL_NOT_FOUND, text, param="model")
    checks = CHAT if route == "chat/completions" else TEXT
    body: dict[str, Any] = {"model": teacher.model}
    for name, value in given.items():
        if name in _OWN or value is None:
            continue
        check = checks.get(name)
        if check is None:
            name = named(name)
            raise invalid(name, f"{name}: is not supported by the gateway; it passes on {', '.join(checks)}")
        body[name] = checked(name, check(name, value))
    if body.get("logprobs") is False:
        del body["logprobs"]
    texts = _prompt(route, given, body)
    n = body["n"] = body.get("n", 1)
    output = _bound(given, teacher)
    body[teacher.parameter if route == "chat/completions" else "max_tokens"] = output
    if "response_format" in body:
        texts.append(json.dumps(body["response_format"], ensure_ascii=False))
    stream, usage_chunk = _stream(given)
    return Question(
        route=route,
        body=body,
        stream=stream,
        usage_chunk=usage_chunk,
        n=n,
        sample=_sample(sample),
        input_tokens=most_tokens(texts) + template_tokens(teacher, len(body.get("messages", ()))),
        output_tokens=output,
    )


def _object(raw: bytes) -> dict[str, Any]:
    try:
        counted(raw, _VALUES, _LEVELS)
    except TooMuch as error:
        raise invalid(None, f"the body is not read: {error}") from None

    def refuse(word: str) -> float:
        raise invalid(None, f"the body holds {word}, which is no JSON")

    try:
        given = json.loads(raw, parse_constant=refuse)
    except (ValueError, RecursionError) as error:
        raise invalid(None, f"the body is no JSON: {error}") from None
    if not isinstance(given, dict):
        raise invalid(None, "the body is no JSON object")
    return given


def _prompt(route: Route, given: dict[str, Any], body: dict[str, Any]) -> list[str]:
    if route == "chat/completions":
        if "prompt" in given:
            raise invalid("prompt", "prompt: is for /v1/completions; send messages")
        messages, texts = conversation(given.get("messages"))
        body["messages"] = checked("messages", messages)
        return texts
    if "messages" in given:
        raise invalid("messages", "messages: is for /v1/chat/completions; send prompt")
    prompt = given.get("prompt")
    if not isinstance(prompt, str):
        raise invalid("prompt", "prompt: has to be one text; send a request for each prompt")
    body["prompt"] = checked("prompt", prompt)
    return [prompt]


def _bound(given: dict[str, Any], teacher: BudgetTeacher) -> int:
    """The most tokens of one answer: as asked, never above the teacher's own bound, which also stands in where none is given."""
    bounds: list[int] = [integer(1, 2**31)(name, given[name]) for name in _BOUNDS if given.get(name) is not None]
    return min([*bounds, teacher.max_completion_tokens])


def _stream(given: dict[str, Any]) -> tuple[bool, bool]:
    stream = boolean("stream", given.get("stream") or False)
    options = given.get("stream_options")
    if options is None:
        return stream, False
    if not stream or not isinstance(options, dict) or options.keys() - {"include_usage"}:
        raise invalid("stream_options", "stream_options: takes include_usage alone, and only with stream")
    return stream, boolean("stream_options.include_usage", options.get("include_usage", False))


def _sample(header: str | None) -> int:
    if header is None:
        return 0
    if not header.isascii() or not header.isdigit() or len(header) > 9:
        raise invalid("X-Distillery-Sample", f"X-Distillery-Sample: {shown(header)} is not a number of at most nine digits")
    return int(header)

"""Counts what a job would ask its teacher: the rows where they can be read here, else as the command line says."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from distillery.api.data import Rows
from distillery.api.job import DistillationJobSpec
from distillery.prices.bound import most_tokens, template_tokens

from .load import BadManifest

#: Of training rows that are held out where data.evaluation names none: a tenth, at most so many.
_HELD_OUT_LIMIT: Final = 200


@dataclass
class Prompts:
    """The prompts of some requests, added one by one."""

    count: int = 0
    size: int = 0
    """UTF-8 bytes in all."""
    bounds: list[int] = field(default_factory=list)
    """Upper bound of each in tokens, as the gateway holds money for it."""

    def add(self, texts: list[str], messages: int) -> None:
        """One prompt."""
        self.count += 1
        self.size += sum(len(text.encode("utf-8", "surrogatepass")) for text in texts)
        self.bounds.append(most_tokens(texts) + template_tokens(messages))

    def part(self, count: int) -> Prompts:
        """As many of them as `count`, of average size; which ones they will be is not known here."""
        share = min(1.0, count / self.count) if self.count else 0.0
        return Prompts(count, round(self.size * share), sorted(self.bounds, reverse=True)[:count])


@dataclass(frozen=True)
class Ask:
    """Requests of one sort: `samples` answers each, none longer than `limit` tokens."""

    name: str
    prompts: Prompts
    samples: int
    limit: int


@dataclass(frozen=True)
class Assumed:
    """What the command line says about rows that cannot be read here."""

    rows: int
    prompt_bytes: int

    def prompts(self, count: int | None = None) -> Prompts:
        """Prompts of that size; as many as `rows` unless told otherwise."""
        found = Prompts()
        for _ in range(self.rows if count is None else count):
            found.add(["x" * self.prompt_bytes], 2)
        return found


def asked(spec: DistillationJobSpec, assumed: Assumed | None) -> list[Ask]:
    """What is asked for the training rows, and for the held-out rows. BadManifest where rows cannot be read and nothing is assumed."""
    endpoint, train, evaluation = spec.teacher.endpoint, spec.data.train, spec.data.evaluation
    if endpoint is None or train is None:
        raise BadManifest("spec.teacher: asks no endpoint, so nothing is bought")
    rows = _prompts(train, "spec.data.train", assumed)
    most = spec.evaluation.max_rows
    if evaluation is not None:
        held = _prompts(evaluation, "spec.data.evaluation", Assumed(most, assumed.prompt_bytes) if assumed else None)
    else:
        held = rows.part(min(_HELD_OUT_LIMIT, max(1, rows.count // 10)))
        rows = rows.part(rows.count - held.count)
    sampling = endpoint.sampling
    asks = [Ask("held-out rows", held.part(min(held.count, most)), 1, spec.evaluation.generation.max_new_tokens)]
    if train.format == "prompt":
        asks.insert(0, Ask("training rows", rows, sampling.samples, sampling.max_completion_tokens))
    return asks


def _prompts(rows: Rows, place: str, assumed: Assumed | None) -> Prompts:
    files = list(_files(rows))
    if not files:
        if assumed is None:
            raise BadManifest(f"{place}.uri: {rows.uri} cannot be read here; give --rows and --prompt-bytes, or --root with a copy")
        return assumed.prompts()
    found = Prompts()
    for path in files:
        for line, value in _values(path):
            try:
                texts, messages = _texts(value, rows)
            except (KeyError, TypeError, AttributeError):
                column = rows.fields.messages if rows.format == "messages" else rows.fields.prompt
                raise BadManifest(f'{path} line {line}: column "{column}" holds no prompt of format {rows.format}') from None
            found.add(texts, messages)
    return found


def _files(rows: Rows) -> Iterator[Path]:
    if not rows.uri.startswith("file://"):
        return
    place = Path(rows.uri.removeprefix("file://"))
    if place.is_file():
        yield place
        return
    word = re.compile(rf"(?<![A-Za-z0-9]){re.escape(rows.split or '')}(?![A-Za-z0-9])")
    for path in sorted(place.rglob("*")):
        if path.suffix in (".jsonl", ".parquet") and (rows.split is None or word.search(str(path.relative_to(place)))):
            yield path


def _values(path: Path) -> Iterable[tuple[int, Any]]:
    if path.suffix == ".parquet":
        import pyarrow.parquet  # type: ignore[import-untyped]

        batches = pyarrow.parquet.ParquetFile(path).iter_batches(1024)
        yield from enumerate((value for batch in batches for value in batch.to_pylist()), 1)
        return
    with path.open("rb") as lines:
        for number, raw in enumerate(lines, 1):
            if raw.strip():
                try:
                    yield number, json.loads(raw)
                except ValueError as error:
                    raise BadManifest(f"{path} line {number}: is not JSON: {error}") from error


def _texts(value: Any, rows: Rows) -> tuple[list[str], int]:
    """The texts of a row's prompt with its roles, and how many messages they are."""
    prompt = value[rows.fields.messages][:-1] if rows.format == "messages" else value[rows.fields.prompt]
    messages = [{"role": "user", "content": prompt}] if isinstance(prompt, str) else [dict(message) for message in prompt]
    if rows.system_prompt is not None and all(message["role"] != "system" for message in messages):
        messages.insert(0, {"role": "system", "content": rows.system_prompt})
    return [text for message in messages for text in (str(message["role"]), str(message["content"]))], len(messages)

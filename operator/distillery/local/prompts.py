"""Counts what a job would ask its teacher: the rows where they can be read here, else as the command line says."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from distillery.api.data import Rows, held_out_of
from distillery.api.job import DistillationJobSpec
from distillery.api.rows import BadRow, Prompt, in_split, json_lines, parts_of
from distillery.prices.bound import MESSAGE_TOKENS, most_tokens

from .load import BadManifest


@dataclass
class Prompts:
    """The prompts of some requests, added one by one."""

    count: int = 0
    size: int = 0
    """UTF-8 bytes in all."""
    bounds: list[int] = field(default_factory=list)
    """Upper bound of each in tokens, as the gateway holds money for it, without what the teacher's chat template adds to any prompt."""

    def add(self, texts: list[str], messages: int) -> None:
        """One prompt."""
        self.count += 1
        self.size += sum(len(text.encode("utf-8", "surrogatepass")) for text in texts)
        self.bounds.append(most_tokens(texts) + MESSAGE_TOKENS * messages)

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
    plain, most = spec.data.chat_template == "none", spec.evaluation.max_rows
    rows = _prompts(train, "spec.data.train", plain, assumed)
    if evaluation is not None:
        held = _prompts(evaluation, "spec.data.evaluation", plain, Assumed(most, assumed.prompt_bytes) if assumed else None)
    else:
        held = rows.part(held_out_of(rows.count))
        rows = rows.part(rows.count - held.count)
    sampling = endpoint.sampling
    asks = [Ask("held-out rows", held.part(min(held.count, most)), 1, spec.evaluation.generation.max_new_tokens)]
    if train.format == "prompt":
        asks.insert(0, Ask("training rows", rows, sampling.samples, sampling.max_completion_tokens))
    return asks


def _prompts(rows: Rows, place: str, plain: bool, assumed: Assumed | None) -> Prompts:
    files = list(_files(rows))
    if not files:
        if assumed is None:
            raise BadManifest(f"{place}.uri: {rows.uri} cannot be read here; give --rows and --prompt-bytes, or --root with a copy")
        return assumed.prompts()
    found = Prompts()
    for path in files:
        for line, value in _values(path):
            try:
                if isinstance(value, BadRow):
                    raise value
                found.add(*_texts(parts_of(value, rows).prompt, plain))
            except BadRow as error:
                raise BadManifest(f"{place}: {path} line {line}: {error}") from error
    return found


def _files(rows: Rows) -> Iterator[Path]:
    if not rows.uri.startswith("file://"):
        return
    place = Path(rows.uri.removeprefix("file://"))
    if place.is_file():
        yield place
        return
    for path in sorted(place.rglob("*")):
        if in_split(path.relative_to(place).as_posix(), rows.split):
            yield path


def _values(path: Path) -> Iterator[tuple[int, dict[str, Any] | BadRow]]:
    if path.suffix == ".parquet":
        import pyarrow.parquet  # type: ignore[import-untyped]

        batches = pyarrow.parquet.ParquetFile(path).iter_batches(1024)
        yield from enumerate((value for batch in batches for value in batch.to_pylist()), 1)
        return
    with path.open("rb") as lines:
        yield from json_lines(lines)


def _texts(prompt: Prompt, plain: bool) -> tuple[list[str], int]:
    """The texts of a prompt with its roles, and how many messages they are: none where a text is asked for as it stands."""
    if isinstance(prompt, str) and plain:
        return [prompt], 0
    messages = [{"role": "user", "content": prompt}] if isinstance(prompt, str) else prompt
    return [text for message in messages for text in (message["role"], message["content"])], len(messages)

"""Reads rows from JSONL and parquet. What is wrong is told with file, line, field and remedy, for the first few lines at once."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np

from distillery.api import reasons
from distillery.api.data import Rows
from distillery.api.inputs import ROLES
from distillery.api.rows import BadRow, Number, Prompt, in_split, json_lines, parts_of
from distillery_trainer.errors import StageError
from distillery_trainer.stores import open_source, safe_join

_SHOWN = 5


@dataclass(frozen=True)
class Row:
    """A row as it was given. `completion` is None where the teacher writes it; `where` is file and line, for messages."""

    id: str
    prompt: Prompt
    completion: str | None
    truth: str | None
    where: str


def read_rows(rows: Rows, role: str, work: Path, environment: Mapping[str, str] | None = None) -> list[Row]:
    """All rows of `rows`, in the order of files and lines. Equal ids get the line number appended. StageError RowsInvalid."""
    source, folder = open_source(rows.uri, role, environment), work / "rows" / role
    field, good, bad = ROLES[role].field, [], []
    single = len(found := source.list()) == 1 and not found[0].path
    wanted = [e.path for e in found if single or in_split(e.path, rows.split)]
    if not wanted:
        raise _nothing(f"{field}.uri {rows.uri!r}", [e.path for e in found], rows.split)
    for path in wanted:
        name = path or rows.uri.rsplit("/", 1)[1]
        place = safe_join(folder, name)
        source.get(path, place)
        seen = 0
        for line, value in _parsed(place, name):
            seen += 1
            where = f"{name} line {line}"
            try:
                if isinstance(value, BadRow):
                    raise value
                parts = parts_of(value, rows)
                row_id = parts.id if parts.id is not None else str(line) if single else f"{name}:{line}"
                good.append(Row(row_id, parts.prompt, parts.completion, parts.truth, where))
            except BadRow as error:
                bad.append(f"{where}: {error}")
        if not seen:
            bad.append(f"{name}: is empty; put one row on each line")
    if bad:
        more = f" (and {len(bad) - _SHOWN} more)" if len(bad) > _SHOWN else ""
        raise StageError(reasons.ROWS_INVALID, f"{field}: {len(bad)} bad rows in {rows.uri}: {'; '.join(bad[:_SHOWN])}{more}")
    return _distinct(good)


def _nothing(place: str, found: list[str], split: str | None) -> StageError:
    if not found:
        return StageError(reasons.NOT_FOUND, f"{place}: there is no such file or folder; check the path")
    text = f"no .jsonl or .parquet file{f' whose name holds the word {split!r}' if split else ''} among {', '.join(found[:8])}"
    return StageError(reasons.ROWS_INVALID, f"{place}: {text}; correct the URI{' or split' if split else ''}")


def _parsed(file: Path, name: str) -> Iterator[tuple[int, dict[str, Any] | BadRow]]:
    """Line number (from 1) and the row's columns, or what is wrong with the line."""
    if name.endswith(".parquet"):
        yield from _parquet(file, name)
    elif name.endswith(".jsonl"):
        with file.open("rb") as lines:
            yield from json_lines(lines)
    else:
        raise StageError(reasons.ROWS_INVALID, f"{name}: is neither .jsonl nor .parquet; convert it and name it so")


def _parquet(file: Path, name: str) -> Iterator[tuple[int, dict[str, Any]]]:
    import pyarrow  # type: ignore[import-untyped]
    import pyarrow.parquet  # type: ignore[import-untyped]

    try:
        opened = pyarrow.parquet.ParquetFile(file.resolve())
        widths: dict[Any, type[np.floating[Any]]] = {pyarrow.float16(): np.float16, pyarrow.float32(): np.float32}
        narrow = {column.name: widths[column.type] for column in opened.schema_arrow if column.type in widths}
        batches = opened.iter_batches(1024)
        yield from enumerate((_spelled(value, narrow) for batch in batches for value in batch.to_pylist()), 1)
    except (pyarrow.ArrowException, OSError) as error:
        raise StageError(reasons.ROWS_INVALID, f"{name}: is not a readable parquet file ({error}); write it again") from error


def _spelled(row: dict[str, Any], narrow: Mapping[str, type[np.floating[Any]]]) -> dict[str, Any]:
    """A row whose numbers are told as in JSON: 0.1 of a `narrow` column has digits in a wider number that nobody wrote."""
    for name, value in row.items():
        if name in narrow and value is not None:
            row[name] = float(str(narrow[name](value)))
        elif isinstance(value, Decimal):
            row[name] = Number(format(value, "f"))
    return row


def _distinct(rows: list[Row]) -> list[Row]:
    """Later rows with an id that stood before get '#' and their line number: ids name rows in every later file."""
    seen: set[str] = set()
    for index, row in enumerate(rows):
        new = row.id
        while new in seen:
            new = f"{new}#{row.where.rsplit(' ', 1)[1]}"
        seen.add(new)
        if new != row.id:
            rows[index] = replace(row, id=new)
    return rows

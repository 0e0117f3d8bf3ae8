"""Statements compiled once to the text that the driver takes: composing them for each transaction costs more than running them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import cache
from operator import attrgetter
from typing import Any

from sqlalchemy import Connection, Delete, Dialect, Insert, Select, Update
from sqlalchemy.dialects.postgresql import psycopg
from sqlalchemy.dialects.sqlite import pysqlite


class Query:
    """A SELECT whose parameters are lists, named in the order in which they appear in the text."""

    def __init__(self, select: Select[Any], *names: str) -> None:
        self._select, self._names = select, names

    @cache  # noqa: B019  (queries are constants of a module)
    def text(self, dialect: str, sizes: tuple[int, ...]) -> str:
        """With so many placeholders in each list."""
        lists = {name: [None] * size for name, size in zip(self._names, sizes, strict=True)}
        compiled = self._select.params(lists).compile(dialect=_positional(dialect), compile_kwargs={"render_postcompile": True})
        return str(compiled)


class Change:
    """An INSERT or UPDATE that takes its values from attributes of rows; `written` names those that are written otherwise than held."""

    def __init__(self, statement: Insert | Update | Delete, columns: Iterable[str] = (), **written: str) -> None:
        self._statement, self._columns, self._written = statement, list(columns), written

    @cache  # noqa: B019
    def compiled(self, dialect: str) -> tuple[str, Callable[[object], tuple[object, ...]]]:
        """The text, and what makes its parameters of a row."""
        compiled: Any = self._statement.compile(dialect=_positional(dialect), column_keys=self._columns)
        names = [self._written.get(name, name) for name in compiled.positiontup]
        values = attrgetter(*names)
        return str(compiled), values if len(names) > 1 else lambda row: (values(row),)


class Cursor:
    """The driver's own cursor in the transaction of a connection. Raises the driver's errors."""

    def __init__(self, connection: Connection) -> None:
        self._dialect, self._cursor = connection.dialect.name, connection.connection.cursor()

    def rows(self, query: Query, *lists: Iterable[object]) -> Sequence[Any]:
        """What a query finds. Lists are filled up to a power of two, so that few texts are needed; none may be empty."""
        filled = [_filled(list(values)) for values in lists]
        self._cursor.execute(query.text(self._dialect, tuple(map(len, filled))), [value for values in filled for value in values])
        return self._cursor.fetchall()

    def change(self, change: Change, rows: Iterable[object]) -> None:
        """Write rows."""
        text, values = change.compiled(self._dialect)
        if parameters := [values(row) for row in rows]:
            self._cursor.executemany(text, parameters)


def _filled(values: list[object]) -> list[object]:
    size = 1 << (len(values) - 1).bit_length()
    return values + values[-1:] * (size - len(values))


@cache
def _positional(dialect: str) -> Dialect:
    made: Dialect = pysqlite.dialect() if dialect == "sqlite" else psycopg.dialect(paramstyle="format")  # type: ignore[no-untyped-call]
    return made

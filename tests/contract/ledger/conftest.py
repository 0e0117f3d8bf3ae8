"""The same ledger on both databases: a file of SQLite, and a real Postgres that lives as long as the session."""

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from datetime import datetime
from pathlib import Path

import pgserver
import psycopg
import pytest
from tests.unit.ledger.wallet import NOON

from distillery.gateway.ledger import Ledger

Open = Callable[..., Awaitable[Ledger]]


@pytest.fixture(scope="session")
def postgres(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a Postgres server."""
    server = pgserver.get_server(tmp_path_factory.mktemp("postgres"))
    yield server.get_uri()
    server.cleanup()


@pytest.fixture
def database(postgres: str) -> str:
    """The URL of an empty database of Postgres."""
    with psycopg.connect(postgres, autocommit=True) as connection:
        connection.execute("DROP SCHEMA public CASCADE; CREATE SCHEMA public")
    return postgres


@pytest.fixture(params=["sqlite", "postgres"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The URL of an empty database."""
    return f"sqlite:///{tmp_path}/ledger.db" if request.param == "sqlite" else request.getfixturevalue("database")


@pytest.fixture
async def opened(url: str) -> AsyncIterator[Open]:
    """Opens the ledger of `url`, again and again if asked; all are closed in the end."""
    ledgers: list[Ledger] = []

    async def opened(at: datetime = NOON) -> Ledger:
        ledgers.append(await Ledger.open(url, at))
        return ledgers[-1]

    yield opened
    for ledger in ledgers:
        await ledger.close()


@pytest.fixture
async def ledger(opened: Open) -> Ledger:
    """An empty ledger."""
    return await opened()

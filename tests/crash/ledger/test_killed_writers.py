"""Real processes, killed for real: no committed hold is lost, no limit exceeded, nothing paid twice."""

import json
from collections.abc import Iterator
from pathlib import Path

import pgserver
import psycopg
import pytest
from tests.crash.ledger.gateways import Gateway, Told, holds_true, kills

LIMITS = {"total": 300_000, "perJob": 45_000}


@pytest.fixture(scope="module")
def postgres(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a Postgres server."""
    server = pgserver.get_server(tmp_path_factory.mktemp("postgres"))
    yield server.get_uri()
    server.cleanup()


@pytest.fixture(params=["sqlite", "postgres"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The URL of an empty database."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/ledger.db"
    address: str = request.getfixturevalue("postgres")
    with psycopg.connect(address, autocommit=True) as connection:
        connection.execute("DROP SCHEMA public CASCADE; CREATE SCHEMA public")
    return address


def test_a_writer_is_killed_and_killed_again(url: str) -> None:
    told = kills(url, clients=64, limits=LIMITS, times=2, seed=1)
    print(json.dumps(holds_true(url, told, LIMITS)))


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(100, 103))
def test_a_writer_of_256_clients_is_killed_many_times(url: str, seed: int) -> None:
    limits = {"total": 6_000_000, "perJob": 800_000}
    told = kills(url, clients=256, limits=limits, times=12, seed=seed)
    print(json.dumps(holds_true(url, told, limits)))


def test_two_writers_race_on_postgres(postgres: str) -> None:
    """Neither may grant what the other has; one of them is killed in the midst of it."""
    with psycopg.connect(postgres, autocommit=True) as connection:
        connection.execute("DROP SCHEMA public CASCADE; CREATE SCHEMA public")
    told = Told()
    one, two = (Gateway(postgres, 64, LIMITS, seed, told) for seed in (1, 2))
    one.kill_after(300)
    assert two.wait() == 0
    figures = holds_true(postgres, told, LIMITS)
    print(json.dumps(figures))


def test_a_second_writer_of_sqlite_ends_the_first(tmp_path: Path) -> None:
    url, told = f"sqlite:///{tmp_path}/ledger.db", Told()
    endless, nothing = {"total": 10**12, "perJob": 10**12}, {"total": 0, "perJob": 0}
    one = Gateway(url, 64, endless, 1, told)
    one.hear(100)
    two = Gateway(url, 64, nothing, 2, told)
    assert one.wait() == 3, "fenced"
    assert two.wait() == 0
    print(json.dumps(holds_true(url, told, endless)))

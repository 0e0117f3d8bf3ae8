"""The random lives of tests/unit/ledger on a real Postgres."""

from typing import ClassVar

import psycopg
import pytest
from hypothesis.stateful import run_state_machine_as_test
from tests.unit.ledger.machine import LedgerMachine
from tests.unit.ledger.test_properties import lives


class OnPostgres(LedgerMachine):
    """All lives use one database, emptied before each."""

    address_of_server: ClassVar[str]

    def url(self) -> str:
        with psycopg.connect(self.address_of_server, autocommit=True) as connection:
            connection.execute("DROP SCHEMA public CASCADE; CREATE SCHEMA public")
        return self.address_of_server


def test_ten_lives(postgres: str) -> None:
    OnPostgres.address_of_server = postgres
    run_state_machine_as_test(OnPostgres, settings=lives(10, 15))


@pytest.mark.slow
def test_a_thousand_lives(postgres: str) -> None:
    OnPostgres.address_of_server = postgres
    run_state_machine_as_test(OnPostgres, settings=lives(1000, 20))

"""The ledger against its model on SQLite: 50 random lives in the fast tier, 1000 before a release."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from hypothesis.stateful import run_state_machine_as_test
from tests.unit.ledger.machine import LedgerMachine

#: In memory where there is such a place: what a lost power supply does is not what these lives are about.
_PLACE = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None


class OnSQLite(LedgerMachine):
    """Each life has a file of its own."""

    def url(self) -> str:
        self.folder = tempfile.TemporaryDirectory(dir=_PLACE)
        return f"sqlite:///{Path(self.folder.name)}/ledger.db"

    def teardown(self) -> None:
        super().teardown()
        self.folder.cleanup()


def lives(number: int, steps: int) -> settings:
    """So many random lives of so many steps."""
    return settings(
        max_examples=number, stateful_step_count=steps, deadline=None, suppress_health_check=list(HealthCheck), database=None,
        derandomize=False, print_blob=True,
    )  # fmt: skip


def test_fifty_lives() -> None:
    run_state_machine_as_test(OnSQLite, settings=lives(50, 15))


@pytest.mark.slow
def test_a_thousand_lives() -> None:
    run_state_machine_as_test(OnSQLite, settings=lives(1000, 30))

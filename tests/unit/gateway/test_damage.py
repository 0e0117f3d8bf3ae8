"""An answer whose bytes were changed in the ledger is bought again and told, never given and never an error."""

import sqlite3
import zlib
from pathlib import Path

import pytest
from tests.unit.gateway.conftest import Gate
from tests.unit.gateway.test_bodies import Bucket, bodies, bucket  # noqa: F401

from distillery.gateway.bodies import Bodies
from distillery.gateway.ledger import commands

DAMAGES = {
    "no zlib": b"\x00\x01",
    "cut off": zlib.compress(b"an answer that is long enough")[:12],
    "another": zlib.compress(b"{}"),
    "text": "x",
    "none": None,
}


def damage(tmp_path: Path, body: bytes | str | None) -> None:
    """What a disk or an intruder does."""
    with sqlite3.connect(tmp_path / "ledger.db") as connection:
        assert connection.execute("UPDATE answers SET body = ?", (body,)).rowcount == 1
    connection.close()


def lost(gate: Gate, why: str) -> float:
    """As the metrics tell."""
    return gate.asking.answers._metrics.lost.labels(why)._value.get()


@pytest.mark.parametrize("body", DAMAGES.values(), ids=DAMAGES)
async def test_a_damaged_answer_is_bought_again_and_then_kept(
    gate: Gate, tmp_path: Path, body: bytes | str | None, caplog: pytest.LogCaptureFixture
) -> None:
    bought = await gate.ask()
    damage(tmp_path, body)
    again, kept = await gate.ask(), await gate.ask()
    assert [(reply.status, reply.cache, reply.text) for reply in (again, kept)] == [(200, "miss", bought.text), (200, "hit", bought.text)]
    assert "a bought answer is lost" in caplog.text
    assert lost(gate, "body-damaged") == 1
    assert commands.main(["verify", "--database", f"sqlite:///{tmp_path}/ledger.db"]) == 0


async def test_a_damaged_answer_is_not_moved_to_the_store(gate: Gate, tmp_path: Path, bodies: Bodies, bucket: Bucket) -> None:  # noqa: F811
    gate.asking.answers._bodies = bodies
    await gate.ask()
    damage(tmp_path, zlib.compress(b"{}"))
    assert await gate.asking.answers.move() == 1
    assert (bucket.objects, lost(gate, "body-damaged")) == ({}, 1)
    assert await gate.asking.answers.move() == 0, "it is not tried for ever"
    assert (await gate.ask()).cache == "miss"

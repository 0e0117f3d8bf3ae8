"""Digests of inputs: the same bytes, the same input."""

from __future__ import annotations

from pathlib import Path

import pytest

from distillery_trainer.errors import StageError
from distillery_trainer.stores.digests import digest_input


def test_content_decides_and_neither_place_nor_model_card(tmp_path: Path) -> None:
    """A moved folder is the same input; a changed byte, a renamed file is another."""
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "config.json").write_text("{}")

    def of(name: str) -> str:
        return digest_input(f"file://{tmp_path}/{name}", "teacher", tmp_path / "work", {})

    first = of("a")
    assert of("b") == first
    (tmp_path / "b/README.md").write_text("licence: MIT")
    assert of("b") == first
    (tmp_path / "b/config.json").write_text("{ }")
    assert of("b") != first
    (tmp_path / "a/config.json").rename(tmp_path / "a/other.json")
    assert of("a") != first


def test_one_file(tmp_path: Path) -> None:
    """Its name does not matter."""
    for name in ("x.jsonl", "y.jsonl"):
        (tmp_path / name).write_text("{}")
    digests = {digest_input(f"file://{tmp_path}/{name}", "train", tmp_path / "work", {}) for name in ("x.jsonl", "y.jsonl")}
    assert len(digests) == 1


def test_nothing_there_is_told(tmp_path: Path) -> None:
    """With the field."""
    with pytest.raises(StageError, match=r"spec\.student\.model\.uri 'file:///nowhere': there is nothing"):
        digest_input("file:///nowhere", "student", tmp_path, {})

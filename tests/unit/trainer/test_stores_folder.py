"""A folder as a store."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from distillery_trainer.errors import Missing, StageError
from distillery_trainer.stores import open_source, open_store


def test_what_is_written_is_read_listed_and_deleted(tmp_path: Path) -> None:
    """Paths are relative, sorted, and go when their folder is deleted."""
    store = open_store(f"file://{tmp_path}/out", "output", {})
    assert store.list() == []
    store.write("a/b.txt", b"one")
    (tmp_path / "c").write_bytes(b"four")
    store.put(tmp_path / "c", "a/c.txt")
    assert [(e.path, e.size) for e in store.list("a")] == [("a/b.txt", 3), ("a/c.txt", 4)]
    assert [(e.path, e.size) for e in store.list("a/b.txt")] == [("a/b.txt", 3)]
    assert store.read("a/b.txt") == b"one"
    assert store.uri("a/b.txt") == f"file://{tmp_path}/out/a/b.txt"
    store.delete("a/b.txt")
    assert not store.exists("a/b.txt")
    store.delete("a")
    store.delete("a")
    assert store.list() == []
    assert list((tmp_path / "out").iterdir()) == []


def test_upload_and_download_keep_relative_paths(tmp_path: Path) -> None:
    """A folder comes back as it went in; what is downloaded is a link, which costs nothing."""
    (tmp_path / "in/deep").mkdir(parents=True)
    (tmp_path / "in/x").write_text("1")
    (tmp_path / "in/deep/y").write_text("2")
    store = open_store(f"file://{tmp_path}/out", "output", {})
    store.upload(tmp_path / "in", "stage")
    assert store.download("stage", tmp_path / "back") == ["deep/y", "x"]
    assert (tmp_path / "back/deep/y").read_text() == "2"
    assert (tmp_path / "back/deep/y").is_symlink()


def test_single_file_is_a_source_of_one(tmp_path: Path) -> None:
    """A URI that names a file lists it under the empty path."""
    (tmp_path / "rows.jsonl").write_text("{}")
    source = open_source(f"file://{tmp_path}/rows.jsonl", "train", {})
    assert [e.path for e in source.list()] == [""]
    assert source.download("", tmp_path / "got") == ["rows.jsonl"]


def test_of_racing_creators_one_wins(tmp_path: Path) -> None:
    """And the content is the winner's, whole."""
    store = open_store(f"file://{tmp_path}", "output", {})
    won: list[int] = []
    start = threading.Barrier(16)

    def create(writer: int) -> None:
        start.wait()
        if store.create("manifest.json", b"%d" % writer * 1000):
            won.append(writer)

    threads = [threading.Thread(target=create, args=(writer,)) for writer in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(won) == 1
    assert store.read("manifest.json") == b"%d" % won[0] * 1000
    assert [e.path for e in store.list()] == ["manifest.json"]


def test_missing_file_names_the_field(tmp_path: Path) -> None:
    """The message says which field and which URI."""
    with pytest.raises(Missing, match=r"spec\.output\.uri: no file file://.*/a/b; check the path"):
        open_store(f"file://{tmp_path}", "output", {}).read("a/b")


def test_volume_is_found_under_its_mount(tmp_path: Path) -> None:
    """pvc://claim/path lies at <volumes>/claim/path; an unmounted claim is told."""
    (tmp_path / "claim").mkdir()
    environment = {"DISTILLERY_VOLUMES": str(tmp_path)}
    open_store("pvc://claim/out", "output", environment).write("x", b"1")
    assert (tmp_path / "claim/out/x").read_bytes() == b"1"
    with pytest.raises(StageError, match="create the PersistentVolumeClaim"):
        open_store("pvc://other/out", "output", environment)
    with pytest.raises(StageError, match=r"must not contain '\.\.'"):
        open_store("pvc://claim/../other", "output", environment)


@pytest.mark.parametrize(
    ("number", "reason", "text"),
    [
        (28, "DiskFull", "enlarge the volume"),
        (122, "DiskFull", "enlarge"),
        (13, "AccessDenied", "fsGroup"),
        (30, "AccessDenied", "fsGroup"),
    ],
)
def test_errors_of_the_disk_are_the_users_to_mend(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, reason: str, text: str
) -> None:
    """Full and forbidden volumes name the field and the remedy."""

    def fail(*_: object) -> None:
        raise OSError(number, "no")

    monkeypatch.setattr(Path, "write_bytes", fail)
    with pytest.raises(StageError, match=text) as caught:
        open_store(f"file://{tmp_path}", "output", {}).write("x", b"1")
    assert (caught.value.reason, caught.value.code) == (reason, 64)
    assert "spec.output.uri" in caught.value.message


def test_only_some_schemes_can_be_written() -> None:
    """hf:// is for reading."""
    with pytest.raises(StageError, match="cannot be written to"):
        open_store("hf://a/b", "output", {})

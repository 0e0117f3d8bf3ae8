"""The trainer's S3 store against a real server: bytes, commits, races, and what users are told when something is wrong."""

from __future__ import annotations

import concurrent.futures
from collections.abc import Mapping
from pathlib import Path

import pytest
from tests.conftest import ObjectStore

from distillery.api.result import StageResult
from distillery_trainer.errors import Missing, StageError
from distillery_trainer.runner import commit
from distillery_trainer.runner.manifest import Creator, Manifest
from distillery_trainer.stores import Store, open_store

pytestmark = pytest.mark.cluster


@pytest.fixture
def environment(object_store: ObjectStore) -> Mapping[str, str]:
    """What a stage's pod sees of the Secret of spec.output."""
    return {
        "OUTPUT_AWS_ACCESS_KEY_ID": object_store.access_key_id,
        "OUTPUT_AWS_SECRET_ACCESS_KEY": object_store.secret_access_key,
        "OUTPUT_AWS_ENDPOINT_URL": object_store.endpoint,
    }


@pytest.fixture
def store(bucket: str, environment: Mapping[str, str]) -> Store:
    """A store under a prefix of the bucket."""
    return open_store(f"s3://{bucket}/team/out", "output", environment)


def test_what_is_written_is_read_listed_and_deleted(store: Store, tmp_path: Path) -> None:
    """Prefixes are folders: 'a' does not match 'ab'."""
    assert store.list() == []
    store.write("a/b.txt", b"one")
    store.write("ab/c.txt", b"other")
    (tmp_path / "in/deep").mkdir(parents=True)
    (tmp_path / "in/deep/d").write_bytes(b"1234")
    store.upload(tmp_path / "in", "a")
    assert [(e.path, e.size) for e in store.list("a")] == [("a/b.txt", 3), ("a/deep/d", 4)]
    assert all(e.tag for e in store.list())
    assert store.download("a", tmp_path / "back") == ["b.txt", "deep/d"]
    assert (tmp_path / "back/deep/d").read_bytes() == b"1234"
    store.delete("a")
    assert [e.path for e in store.list()] == ["ab/c.txt"]
    assert store.exists("ab/c.txt")
    assert not store.exists("a/b.txt")
    with pytest.raises(Missing, match=r"spec\.output\.uri: no object s3://.*/team/out/none"):
        store.read("none")


def test_uri_of_one_object_is_a_source_of_one(store: Store, bucket: str, environment: Mapping[str, str], tmp_path: Path) -> None:
    """As spec.data.train.uri may name it."""
    store.write("rows.jsonl", b"{}")
    one = open_store(f"s3://{bucket}/team/out/rows.jsonl", "output", environment)
    assert [e.path for e in one.list()] == [""]
    assert one.download("", tmp_path) == ["rows.jsonl"]


def test_large_file_goes_in_parts(store: Store, tmp_path: Path) -> None:
    """And comes back the same."""
    data = bytes(range(256)) * (70 << 12)
    (tmp_path / "large").write_bytes(data)
    store.put(tmp_path / "large", "large")
    store.get("large", tmp_path / "back")
    assert (tmp_path / "back").read_bytes() == data


def test_of_racing_commits_one_wins_and_all_agree(store: Store, tmp_path: Path) -> None:
    """The losers adopt the winner's manifest, and leave no file of their own."""

    def run(writer: int) -> tuple[Manifest, bool]:
        folder = tmp_path / str(writer)
        folder.mkdir()
        (folder / "model.bin").write_bytes(b"%d" % writer)
        creator = Creator(namespace="n", job=f"job-{writer}", uid=str(writer))
        draft = Manifest(stage="train", hash="c" * 64, format=1, root="", files=(), created_by=creator, result=StageResult())
        return commit.commit(store, "stages/train-c", folder, draft)

    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        outcomes = list(pool.map(run, range(8)))
    assert [adopted for _, adopted in outcomes].count(False) == 1
    assert len({manifest.root for manifest, _ in outcomes}) == 1
    winner = outcomes[0][0]
    assert {e.path for e in store.list()} == {"stages/train-c/manifest.json", f"stages/train-c/{winner.root}/model.bin"}
    fetched = commit.fetch(store, "stages/train-c", winner, tmp_path / "got")
    assert (fetched / "model.bin").read_text() == winner.created_by.uid


@pytest.mark.parametrize(
    ("change", "reason", "code", "told"),
    [
        ({"OUTPUT_AWS_SECRET_ACCESS_KEY": "wrong"}, "AccessDenied", 64, "Secret that spec.output.credentialsSecretRef names"),
        ({"OUTPUT_AWS_ACCESS_KEY_ID": "nobody"}, "AccessDenied", 64, "Secret that spec.output.credentialsSecretRef names"),
        ({"OUTPUT_AWS_ENDPOINT_URL": "http://127.0.0.1:9"}, "StoreUnavailable", 75, "http://127.0.0.1:9 does not answer"),
        ({"OUTPUT_AWS_ENDPOINT_URL": "nonsense"}, "BadInput", 64, "AWS_ENDPOINT_URL"),
        ({}, "NotFound", 64, "bucket 'test-none' does not exist"),
    ],
)
def test_what_is_wrong_is_told_with_field_and_remedy(
    bucket: str, environment: Mapping[str, str], change: Mapping[str, str], reason: str, code: int, told: str
) -> None:
    """Wrong keys and missing buckets end the job; a store that does not answer is tried again."""
    with pytest.raises(StageError) as caught:
        open_store(f"s3://{bucket if change else 'test-none'}/out", "output", {**environment, **change}).create("x", b"1")
    assert (caught.value.reason, caught.value.code) == (reason, code)
    assert told in caught.value.message
    assert "spec.output.uri" in caught.value.message


def test_without_keys_the_missing_identity_is_told(environment: Mapping[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Not a traceback of the client."""
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_CONFIG_FILE", "/dev/null")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/dev/null")
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(StageError, match="the pod's own identity was used") as caught:
        open_store("s3://b/out", "output", {"AWS_ENDPOINT_URL": environment["OUTPUT_AWS_ENDPOINT_URL"]}).read("x")
    assert caught.value.reason == "AccessDenied"

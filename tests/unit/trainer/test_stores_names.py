"""Foreign names stay inside: keys of buckets, files of volumes, paths in manifests and markers, wherever a file is made of them."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch
from tests.unit.trainer.hostile import NAMES, written

from distillery.api.data import Rows
from distillery.api.result import StageResult
from distillery_trainer.data.rows import read_rows
from distillery_trainer.data.traces import Place, SignalRecord
from distillery_trainer.errors import StageError
from distillery_trainer.models.files import fetch_model
from distillery_trainer.runner import commit
from distillery_trainer.runner.manifest import Creator, File, Manifest
from distillery_trainer.signal.read import Signal
from distillery_trainer.stores import open_source, open_store, safe_join
from distillery_trainer.stores.digests import digest_input
from distillery_trainer.stores.names import fault_of
from distillery_trainer.teacher.endpoint.kept import Kept
from distillery_trainer.training.checkpoint import MARKER, Checkpoints

GOOD = [
    "config.json",
    "data/train-00000-of-00001.parquet",
    "...",
    "a..b",
    "date=2024%2F01/x",
    "Ünïcode/日本語.jsonl",
    "with space",
    "n" * 200,
]
ENVIRONMENT = {f"{role}_AWS_{name}": "x" for role in ("TEACHER", "TRAIN", "OUTPUT") for name in ("ACCESS_KEY_ID", "SECRET_ACCESS_KEY")}


class Bucket:
    """What boto3's client does with a bucket whose keys somebody else chose."""

    keys: ClassVar[dict[str, bytes]] = {}

    def __init__(self, *_: object, **__: object) -> None:
        self.meta, self.region_name, self.endpoint_url = self, "", "http://s3"

    def client(self, *_: object, **__: object) -> Bucket:
        """As a session's."""
        return self

    get_paginator = client

    def paginate(self, Bucket: str, Prefix: str) -> Iterator[dict[str, Any]]:  # noqa: N803
        """One page."""
        yield {"Contents": [{"Key": k, "Size": len(v), "ETag": '"e"'} for k, v in self.keys.items() if k.startswith(Prefix)]}

    def download_file(self, bucket: str, key: str, target: str, Config: object) -> None:  # noqa: N803
        """Write it where it was told to."""
        Path(target).write_bytes(self.keys[key])


@pytest.fixture
def bucket(monkeypatch: pytest.MonkeyPatch) -> dict[str, bytes]:
    """The keys of every bucket."""
    monkeypatch.setattr("distillery_trainer.stores.s3.boto3.Session", Bucket)
    monkeypatch.setattr(Bucket, "keys", keys := {})
    return keys


@pytest.mark.parametrize("name", NAMES)
def test_a_hostile_name_is_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(StageError, match=": rename or remove it"):
        safe_join(tmp_path, name)


@pytest.mark.parametrize("name", GOOD)
def test_other_names_are_taken_as_they_stand(name: str, tmp_path: Path) -> None:
    assert fault_of(name) is None
    assert safe_join(tmp_path, name) == tmp_path / name


def test_a_folder_that_is_a_link_leads_nowhere(tmp_path: Path) -> None:
    (tmp_path / "work").mkdir()
    (tmp_path / "work/link").symlink_to(tmp_path)
    with pytest.raises(StageError, match="leads outside by a link"):
        safe_join(tmp_path / "work", "link/x")


def read_a_model(work: Path) -> object:
    return fetch_model("s3://b/teacher", "teacher", work, environment=ENVIRONMENT)


def read_a_gguf(work: Path) -> object:
    return open_source("s3://b/teacher", "teacher", ENVIRONMENT).download("", work / "models/teacher")


def read_some_rows(work: Path) -> object:
    return read_rows(Rows.model_validate({"uri": "s3://b/teacher"}), "train", work, ENVIRONMENT)


def digest_them(work: Path) -> object:
    return digest_input("s3://b/teacher", "teacher", work, ENVIRONMENT)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("use", [read_a_model, read_a_gguf, read_some_rows, digest_them])
def test_a_key_of_a_bucket_stays_inside(use: Callable[[Path], object], name: str, bucket: dict[str, bytes], tmp_path: Path) -> None:
    """Each place that brings what it lists; the key is told, and the field of the URI."""
    for key in ("config.json", "model.safetensors", "a.jsonl"):
        bucket[f"teacher/{key}"] = b"{}"
    bucket[f"teacher/{name}.jsonl" if not name.endswith("..") else f"teacher/{name}"] = b"hostile"
    with pytest.raises(StageError, match=r"spec\.(teacher\.model|data\.train)\.uri 's3://b/teacher': the name .*: rename or remove it"):
        use(tmp_path / "deep/er/work")
    assert written(tmp_path, apart="deep") == set()


def manifest(**change: Any) -> Manifest:
    """Of traces."""
    creator = Creator(namespace="n", job="j", uid="u")
    base = {"stage": "traces", "hash": "a" * 64, "format": 1, "root": "r", "files": (), "created_by": creator, "result": StageResult()}
    return Manifest.model_validate(base | change)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("where", ["root", "path"])
def test_a_manifest_with_such_a_name_is_none(where: str, name: str, tmp_path: Path) -> None:
    """It is another job's, in a bucket that others write to."""
    store = open_store(f"file://{tmp_path}/traces", "traces", {})
    good = json.loads(manifest(files=(File(path="x", sha256="0" * 64, size_bytes=1),)).model_dump_json(by_alias=True))
    good |= {"root": name} if where == "root" else {"files": [{**good["files"][0], "path": name}]}
    store.write("manifest.json", json.dumps(good).encode())
    with pytest.raises(StageError, match="is not the manifest of a stage"):
        commit.find(store, "")


@pytest.mark.parametrize("name", NAMES)
def test_a_file_that_a_marker_a_piece_or_a_row_names_stays_inside(name: str, tmp_path: Path) -> None:
    """Checkpoints, kept answers and signals are read back from a store too."""
    store, work = open_store(f"file://{tmp_path}/out", "output", {}), tmp_path / "work"
    store.write(f"c/checkpoint-1/{MARKER}", json.dumps({name: "0" * 64}).encode())
    uses: Mapping[str, Callable[[], object]] = {
        "checkpoint": lambda: Checkpoints(store, "c", work)._fetched(1),
        "kept": lambda: Kept(store, "k", {}, 0, 1).all_answers([{"pieces": [name]}], work),
        "signal": lambda: Signal(work, SignalRecord(kind="logits"), torch.device("cpu"), 4).logits([Place(shard=name, offset=0, length=1)]),
        "read": lambda: store.read(name),
        "write": lambda: store.write(name, b""),
        "delete": lambda: store.delete(name),
    }
    before = written(tmp_path, apart="work")
    for use in uses.values():
        with pytest.raises(StageError, match=": rename or remove it"):
            use()
    assert written(tmp_path, apart="work") == before


@pytest.mark.parametrize("link", ["config.json", "deep"])
def test_links_of_a_volume_stay_on_it(link: str, tmp_path: Path) -> None:
    """Who writes to the volume does not read the pod's own files through it; a link within the volume is one more name."""
    secret = tmp_path / "pod/token"
    secret.parent.mkdir()
    secret.write_text("secret")
    claim = tmp_path / "volumes/claim/model"
    claim.mkdir(parents=True)
    (claim / "blob").write_text("{}")
    (claim / "good.json").symlink_to("blob")
    (claim / link).symlink_to(secret if link == "config.json" else secret.parent)
    store = open_store("pvc://claim/model", "output", {"DISTILLERY_VOLUMES": str(tmp_path / "volumes")})
    assert store.read("good.json") == b"{}"
    path = link if link == "config.json" else f"{link}/token"
    for use in (
        lambda: store.read(path),
        lambda: store.get(path, tmp_path / "x"),
        lambda: store.write(path, b""),
        lambda: store.exists(path),
    ):
        with pytest.raises(StageError, match="is a link that leads out of the volume"):
            use()
    assert secret.read_text() == "secret"

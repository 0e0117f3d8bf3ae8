"""hf:// against a small server that speaks the hub's protocol."""

from __future__ import annotations

import contextlib
import hashlib
import http.server
import json
import re
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
from tests.unit.trainer.hostile import NAMES, written

from distillery.api.data import Rows
from distillery_trainer.data.rows import read_rows
from distillery_trainer.errors import Missing, StageError
from distillery_trainer.stores import open_source
from distillery_trainer.stores.digests import digest_input

FILES = {"config.json": b"{}", "data/train.jsonl": b'{"prompt": "x"}\n', "data/test.jsonl": b'{"prompt": "y"}\n'}
HEADERS: dict[str, str] = {}
COMMITS = {"main": "a" * 40, "v1": "b" * 40, "refs/pr/1": "c" * 40}


class Hub(http.server.BaseHTTPRequestHandler):
    """One public repository org/open, one gated org/gated, one that is down org/down."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        """Answer repo_info and file downloads."""
        path = self.path.split("?")[0]
        api = re.fullmatch(r"/api/(models|datasets)/(org/\w+)/revision/(.+)", path)
        plain = re.fullmatch(r"/api/(models|datasets)/(org/\w+)", path)
        file = re.fullmatch(r"/(?:datasets/)?(org/\w+)/resolve/(\w+)/(.+)", path)
        found = api or plain
        name = found[2] if found else file[1] if file else ""
        if name == "org/down":
            self._answer(503, b"")
        elif name == "org/gated" and self.headers.get("Authorization") != "Bearer right":
            self._answer(401, b"", {"X-Error-Code": "GatedRepo", "X-Error-Message": "gated"})
        elif name not in ("org/open", "org/gated"):
            self._answer(404, b"", {"X-Error-Code": "RepoNotFound", "X-Error-Message": "none"})
        elif found:
            self._info(api[3].replace("%2F", "/") if api else "main")
        elif file and file[3] in FILES:
            data = FILES[file[3]]
            headers = {"ETag": f'"{hashlib.sha1(data).hexdigest()}"', "X-Repo-Commit": file[2], "Accept-Ranges": "bytes"}
            self._answer(200, data, headers | HEADERS)
        else:
            self._answer(404, b"", {"X-Error-Code": "EntryNotFound", "X-Error-Message": "none"})

    do_HEAD = do_GET  # noqa: N815

    def _info(self, revision: str) -> None:
        if revision not in COMMITS:
            self._answer(404, b"", {"X-Error-Code": "RevisionNotFound", "X-Error-Message": "none"})
            return
        siblings = [{"rfilename": n, "size": len(d), "blobId": hashlib.sha1(d).hexdigest()} for n, d in FILES.items()]
        info = {"id": "org/open", "sha": COMMITS[revision], "siblings": siblings, "private": False, "disabled": False, "tags": []}
        self._answer(200, json.dumps({**info, "downloads": 0, "likes": 0}).encode(), {"Content-Type": "application/json"})

    def _answer(self, status: int, body: bytes, headers: Mapping[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in {**(headers or {}), "Content-Length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Quiet."""


@pytest.fixture
def environment(tmp_path: Path) -> Iterator[Mapping[str, str]]:
    """HF_ENDPOINT, as a platform team sets it for a mirror."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield {"HF_ENDPOINT": f"http://127.0.0.1:{server.server_port}", "DISTILLERY_WORK": str(tmp_path / "work")}
    server.shutdown()
    server.server_close()


def test_files_of_a_repository(environment: Mapping[str, str], tmp_path: Path) -> None:
    """Listed with git's digests, read, and linked where they are wanted."""
    source = open_source("hf://org/open@v1", "teacher", environment)
    assert [e.path for e in source.list()] == ["config.json", "data/test.jsonl", "data/train.jsonl"]
    assert all(e.tag for e in source.list())
    assert source.read("config.json") == b"{}"
    assert source.download("data", tmp_path / "got") == ["test.jsonl", "train.jsonl"]
    assert (tmp_path / "got/train.jsonl").read_bytes() == FILES["data/train.jsonl"]
    assert not source.exists("none")
    with pytest.raises(Missing, match=r"org/open has no file 'none'"):
        source.read("none")


def test_revision_of_a_model_may_hold_slashes(environment: Mapping[str, str]) -> None:
    """refs/pr/1."""
    assert open_source("hf://org/open@refs/pr/1", "student", environment).exists("config.json")


def test_rows_of_a_data_set(environment: Mapping[str, str], tmp_path: Path) -> None:
    """A path in it, or a split of all of it."""
    one = Rows.model_validate({"uri": "hf://org/open@main/data/train.jsonl"})
    assert [row.prompt for row in read_rows(one, "train", tmp_path / "w", environment)] == ["x"]
    split = Rows.model_validate({"uri": "hf://org/open", "split": "test"})
    assert [row.prompt for row in read_rows(split, "train", tmp_path / "w", environment)] == ["y"]


def test_digest_is_of_the_content(environment: Mapping[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two names of the same files are the same input; other files are another."""
    digests = [digest_input(f"hf://org/open@{name}", "teacher", tmp_path, environment) for name in ("main", "v1")]
    assert digests[0] == digests[1]
    monkeypatch.setitem(FILES, "config.json", b"{ }")
    assert digest_input("hf://org/open", "teacher", tmp_path, environment) != digests[0]


@pytest.mark.parametrize(
    ("uri", "reason", "code", "told"),
    [
        ("hf://org/none", "NotFound", 64, "shows no model org/none: correct the name, or if it is private"),
        ("hf://org/open@v9", "NotFound", 64, "has no revision 'v9' of org/open"),
        ("hf://org/gated", "AccessDenied", 64, "refuses access (401)"),
        ("hf://org/down", "StoreUnavailable", 75, "answers 503; trying again later"),
    ],
)
def test_what_is_wrong_is_told(environment: Mapping[str, str], uri: str, reason: str, code: int, told: str) -> None:
    """With the field, the server and the remedy."""
    with pytest.raises(StageError) as caught:
        open_source(uri, "teacher", environment).list()
    assert (caught.value.reason, caught.value.code) == (reason, code), caught.value.message
    assert told in caught.value.message
    assert "spec.teacher.model.uri" in caught.value.message or code == 75


def test_token_of_the_role_opens_a_gated_repository(environment: Mapping[str, str]) -> None:
    """From the Secret that credentialsSecretRef names."""
    assert open_source("hf://org/gated", "teacher", {**environment, "TEACHER_HF_TOKEN": "right"}).list()
    with pytest.raises(StageError, match=r"spec\.student\.model\.credentialsSecretRef gave no key"):
        open_source("hf://org/gated", "student", {**environment, "TEACHER_HF_TOKEN": "right"}).list()


def test_hub_that_does_not_answer_is_tried_again(tmp_path: Path) -> None:
    """75."""
    environment = {"HF_ENDPOINT": "http://127.0.0.1:9", "DISTILLERY_WORK": str(tmp_path)}
    with pytest.raises(StageError) as caught:
        open_source("hf://org/open", "teacher", environment).list()
    assert (caught.value.reason, caught.value.code) == ("StoreUnavailable", 75)


@pytest.mark.parametrize("name", NAMES)
def test_a_repositorys_file_names_stay_inside(
    name: str, environment: Mapping[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever wrote them."""
    monkeypatch.setitem(FILES, name, b"hostile")
    before = written(tmp_path)
    with pytest.raises(StageError, match=r"spec.teacher.model.uri 'hf://org/open': the name .*: rename or remove it"):
        open_source("hf://org/open", "teacher", environment).download("", tmp_path / "work/models/teacher")
    assert written(tmp_path, apart="work") == before


@pytest.mark.parametrize("header", [{"ETag": '"../../../../../outside"'}, {"X-Repo-Commit": "../../../../outside"}])
def test_what_a_servers_headers_say_names_no_file(
    header: dict[str, str], environment: Mapping[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The client's cache would take both for names."""
    for name, value in header.items():
        monkeypatch.setitem(HEADERS, name, value)
    before = written(tmp_path)
    source = open_source("hf://org/open", "teacher", environment)
    with contextlib.suppress(OSError, StageError):
        source.read("config.json")
    assert written(tmp_path, apart="work") == before


def test_a_commit_is_a_digest(environment: Mapping[str, str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """It is the name of a folder here."""
    monkeypatch.setitem(COMMITS, "main", "../../../outside")
    with pytest.raises(StageError, match="no digest: check HF_ENDPOINT"):
        open_source("hf://org/open@main", "teacher", environment).read("config.json")

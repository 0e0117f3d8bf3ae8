"""The program: its flags, its files, its beginning and its end."""

import asyncio
import json
import os
import signal
import socket
import sys
from collections.abc import Callable
from pathlib import Path

import aiohttp
import pytest
from tests.loopback import CATALOGUE

from distillery.gateway.__main__ import law_of
from distillery.gateway.credentials import BadCredentials
from distillery.gateway.options import options

ACCOUNT = ["--operator-service-account", "distillery/operator"]
ENTRY = {"name": "openai", "baseURLs": ["https://api.openai.com/v1"], "namespaces": ["nlp"], "keyFile": "openai/key"}
KUBECONFIG = """
apiVersion: v1
kind: Config
current-context: x
contexts: [{name: x, context: {cluster: x, user: x}}]
clusters: [{name: x, cluster: {server: "http://127.0.0.1:1"}}]
users: [{name: x, user: {token: x}}]
"""


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ([], "--operator-service-account"),
        (["--operator-service-account", "operator"], "give NAMESPACE/NAME"),
        ([*ACCOUNT, "--ledger", "sqlite:////x.db"], "--terms: needed with --ledger"),
        ([*ACCOUNT, "--ledger", "sqlite:////x.db", "--ledger-file", "x"], "not allowed with"),
        ([*ACCOUNT, "--answer-mib", "64"], "--in-flight-mib: has to be four times"),
    ],
)
def test_flags_that_cannot_be_meant(arguments: list[str], says: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        options(arguments)
    assert end.value.code == 2
    assert says in capsys.readouterr().err


def test_the_ledgers_url_may_stand_in_a_file_since_it_can_hold_a_password(tmp_path: Path) -> None:
    (tmp_path / "url").write_text("postgresql://gateway:secret@db/ledger\n")
    found = options([*ACCOUNT, "--ledger-file", str(tmp_path / "url"), "--terms", str(CATALOGUE)])
    assert found.ledger == "postgresql://gateway:secret@db/ledger"


def test_the_law_is_what_the_files_say(tmp_path: Path) -> None:
    (tmp_path / "credentials.json").write_text(json.dumps([ENTRY]))
    (tmp_path / "own.yaml").write_text("{version: own-1, entries: []}")
    files = ["--terms", str(CATALOGUE), "--terms-override", str(tmp_path / "own.yaml"), "--credentials", str(tmp_path / "credentials.json")]
    lists = ["--open-base-urls", "http://a:1/v1, http://b:1/v1", "--shared-cache-namespaces", "nlp,vision"]
    law = law_of(options([*ACCOUNT, *files, *lists]))
    assert law.catalogue.version.endswith("own-1")
    assert law.shared_cache == {"nlp", "vision"}
    assert law.credentials._open == {"http://a:1/v1", "http://b:1/v1"}
    assert list(law.credentials._by_name) == ["openai"]


def without_key(entry: dict[str, object]) -> object:
    return [{name: value for name, value in entry.items() if name != "keyFile"}]


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (without_key, "needs either keyFile or env"),
        (lambda entry: [{**entry, "env": "KEY"}], "needs either keyFile or env"),
        (lambda entry: [entry, entry], "same name"),
        (lambda entry: [{**entry, "baseURLs": []}], "baseURLs"),
        (lambda entry: [{**entry, "baseURLs": ["https://user@host/"]}], "must be http(s)://host"),
        (lambda entry: [{**entry, "namespace": "nlp"}], "namespace"),
        (lambda entry: entry, "it must be a list"),
    ],
)
def test_credentials_that_cannot_be_meant(tmp_path: Path, content: Callable[[dict[str, object]], object], says: str) -> None:
    (tmp_path / "credentials.json").write_text(json.dumps(content(dict(ENTRY))))
    with pytest.raises(BadCredentials, match=says.replace("(", r"\(").replace(")", r"\)")):
        law_of(options([*ACCOUNT, "--terms", str(CATALOGUE), "--credentials", str(tmp_path / "credentials.json")]))


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port: int = found.getsockname()[1]
        return port


async def test_it_serves_fails_closed_without_an_api_server_and_ends_in_order(tmp_path: Path) -> None:
    (tmp_path / "kubeconfig").write_text(KUBECONFIG)
    ledger, port, health = f"sqlite:///{tmp_path}/ledger.db", free_port(), free_port()
    flags = ["--ledger", ledger, "--terms", str(CATALOGUE), "--port", str(port), "--health-port", str(health)]
    environment = {**os.environ, "KUBECONFIG": str(tmp_path / "kubeconfig"), "PYTHONPATH": os.pathsep.join(sys.path)}
    environment.pop("KUBERNETES_SERVICE_HOST", None)
    program = [sys.executable, "-m", "distillery.gateway"]
    process = await asyncio.create_subprocess_exec(*program, *ACCOUNT, *flags, env=environment, stderr=asyncio.subprocess.PIPE)
    assert process.stderr is not None
    while b'"serving"' not in (line := await asyncio.wait_for(process.stderr.readline(), 60)):
        assert line, "it ended"
    async with aiohttp.ClientSession() as http:
        headers = {"Authorization": "Bearer x"}
        async with http.post(f"http://127.0.0.1:{port}/v1/chat/completions", json={}, headers=headers) as reply:
            assert (reply.status, (await reply.json())["error"]["code"]) == (503, "gateway_unavailable")
        async with http.get(f"http://127.0.0.1:{health}/metrics") as reply:
            assert "distillery_teacher_requests" in await reply.text()
    process.send_signal(signal.SIGTERM)
    assert await asyncio.wait_for(process.wait(), 60) == 0
    check = await asyncio.create_subprocess_exec(*program, "ledger", "verify", "--database", ledger, env=environment)
    assert await asyncio.wait_for(check.wait(), 60) == 0

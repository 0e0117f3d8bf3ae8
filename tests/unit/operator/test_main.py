"""Flags, logs and endpoints of the two programs."""

import json
import logging
import sys
from pathlib import Path

import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer

from distillery.gateway.__main__ import options as gateway_options
from distillery.health import add_endpoints, serving
from distillery.logs import JsonFormatter
from distillery.metrics import Metrics
from distillery.options import options, settings_of, terms_of
from distillery.terms import BadCatalogue


def test_flags_become_settings() -> None:
    given = options(["--trainer-image=t:1", "--namespaces=a,b", "--stage-env=HF_ENDPOINT=https://hub?a=b", "--gateway-url=http://g"])
    found = settings_of(given)
    assert found.trainer_image == "t:1"
    assert found.namespaces == ("a", "b")
    assert found.stage_env == {"HF_ENDPOINT": "https://hub?a=b"}
    assert found.gateway_url == "http://g"


def test_scratch_space_that_is_not_named_has_its_default() -> None:
    assert settings_of(options(["--trainer-image=t", "--scratch=work=1Ti"])).scratch == {"work": "1Ti", "tmp": "8Gi", "shm": "16Gi"}


def test_no_namespaces_are_all_namespaces() -> None:
    assert settings_of(options(["--trainer-image=t"])).namespaces == ()


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        ([], "--trainer-image"),
        (["--trainer-image=t", "--stage-env=HOME"], "give NAME=VALUE"),
        (["--trainer-image=t", "--scratch=home=1Gi"], "give work=SIZE"),
    ],
)
def test_bad_flags_end_with_code_2_and_the_flag(flags: list[str], words: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        options(flags)
    assert ended.value.code == 2
    assert words in capsys.readouterr().err


def test_ones_own_terms_come_before_those_of_the_chart(tmp_path: Path) -> None:
    entry = {"kind": "service", "title": "t", "provider": "p", "retrieved": "2026-01-01", "reviewBy": "2027-01-01"}
    for name, ids in (("chart", ["a", "b"]), ("own", ["b", "c"])):
        entries = [{**entry, "id": found, "clause": name, "rules": [{"effect": "permit", "message": "m"}]} for found in ids]
        (tmp_path / name).write_text(json.dumps({"version": name, "entries": entries}))
    given = options(["--trainer-image=t", f"--terms={tmp_path}/chart", f"--terms-override={tmp_path}/own"])
    assert [(found.id, found.clause) for found in terms_of(given).entries] == [("b", "own"), ("c", "own"), ("a", "chart")]
    assert terms_of(options(["--trainer-image=t"])).entries == []


def test_a_catalogue_that_is_none_is_named(tmp_path: Path) -> None:
    (tmp_path / "terms").write_text("entries: {}")
    with pytest.raises(BadCatalogue, match=f"{tmp_path}/terms: version: "):
        terms_of(options(["--trainer-image=t", f"--terms={tmp_path}/terms"]))


def test_the_gateway_wants_namespace_and_name(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        gateway_options(["--operator-service-account=operator"])
    assert "give NAMESPACE/NAME" in capsys.readouterr().err


def test_the_identity_is_the_pod(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("POD_NAME", "operator-1")
    monkeypatch.setenv("POD_NAMESPACE", "system")
    given = options(["--trainer-image=t"])
    assert (given.identity, given.lease_namespace) == ("operator-1", "system")


def record(message: str, *arguments: object, **extra: object) -> logging.LogRecord:
    return logging.getLogger("distillery.x").makeRecord(
        "distillery.x", logging.WARNING, "f", 1, message, arguments, None, extra=dict(extra)
    )


def test_a_log_line_is_one_json_object_with_its_fields() -> None:
    line = JsonFormatter().format(record("failed: %s\nsecond line", "why", job="nlp/arith", uid=object))
    assert "\n" not in line
    found = json.loads(line)
    assert found | {"time": ""} == {
        "time": "",
        "level": "warning",
        "logger": "distillery.x",
        "message": "failed: why\nsecond line",
        "job": "nlp/arith",
        "uid": "<class 'object'>",
    }


def test_a_log_line_holds_the_traceback() -> None:
    failed = record("failed")
    try:
        raise ValueError("boom")
    except ValueError:
        failed.exc_info = sys.exc_info()
    assert "ValueError: boom" in json.loads(JsonFormatter().format(failed))["error"]


async def test_readyz_tells_why_not_and_healthz_does_not_mind() -> None:
    app, reasons = web.Application(), [None, "no contact with the API server"]
    add_endpoints(app, Metrics(), lambda: reasons[0])
    async with TestClient(TestServer(app)) as client:
        assert (await client.get("/readyz")).status == 200
        reasons.reverse()
        unready = await client.get("/readyz")
        assert (unready.status, await unready.text()) == (503, "no contact with the API server\n")
        assert (await client.get("/healthz")).status == 200


async def test_metrics_are_served_in_the_text_format_and_a_port_can_be_any() -> None:
    app, metrics = web.Application(), Metrics()
    add_endpoints(app, metrics, lambda: None)
    metrics.reconciles.labels("done").inc()
    async with serving(app, "127.0.0.1", 0) as port:
        assert port > 0
    async with TestClient(TestServer(app)) as client:
        text = await (await client.get("/metrics")).text()
    assert 'distillery_reconcile_total{result="done"} 1.0' in text
    assert "process_resident_memory_bytes" in text

"""Progress reports: to a file, to the gateway, and never in the way."""

from __future__ import annotations

import http.server
import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from distillery.api.result import Progress
from distillery_trainer.runner.progress import Reporter


@pytest.fixture
def gateway() -> Iterator[tuple[str, list[tuple[str, Any]]]]:
    """URL of a server, and the (authorization, body) pairs that it got."""
    got: list[tuple[str, Any]] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            got.append((self.headers["Authorization"], json.loads(self.rfile.read(int(self.headers["Content-Length"])))))
            self.send_response(204)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Quiet."""

    server = http.server.HTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/v1/progress", got
    server.shutdown()


def test_newest_report_reaches_the_gateway_with_the_token(tmp_path: Path, gateway: tuple[str, list[tuple[str, Any]]]) -> None:
    """Reports in between are left out; the last one is always sent."""
    url, got = gateway
    (tmp_path / "token").write_text("secret\n")
    reporter = Reporter("train", "a" * 64, {"DISTILLERY_PROGRESS_URL": url, "DISTILLERY_TOKEN_FILE": str(tmp_path / "token")})
    for step in range(1, 101):
        reporter.report(step, 200, "steps", {"loss": 1.23456789}, checkpoint_step=50 if step >= 50 else None)
    reporter.close()
    assert len(got) <= 3
    authorization, body = got[-1]
    report = Progress.model_validate(body)
    assert authorization == "Bearer secret"
    assert (report.stage, report.percentage, report.done, report.total, report.unit) == ("train", 50, 100, 200, "steps")
    assert report.checkpoint_step == 50
    assert [(m.name, m.value) for m in report.metrics] == [("loss", "1.23457")]


def test_file_of_a_local_run(tmp_path: Path) -> None:
    """Whole at any time."""
    reporter = Reporter("traces", "", {"DISTILLERY_PROGRESS_FILE": str(tmp_path / "progress.json")})
    reporter.report(3, 9, "rows", message="x" * 999)
    reporter.close()
    report = Progress.model_validate_json((tmp_path / "progress.json").read_text())
    assert (report.percentage, report.done, len(report.message or "")) == (33, 3, 256)
    assert [p.name for p in tmp_path.iterdir()] == ["progress.json"]


@pytest.mark.parametrize("url", ["http://127.0.0.1:9/x", "nonsense", "http://[::1"])
def test_failure_to_tell_fails_nothing(url: str, tmp_path: Path) -> None:
    """A missing token file neither."""
    reporter = Reporter("train", "", {"DISTILLERY_PROGRESS_URL": url, "DISTILLERY_TOKEN_FILE": str(tmp_path / "none")})
    reporter.report(1, 0, "steps")
    reporter.report(2, 1, "steps", {"loss": float("nan")})
    reporter.close()


def test_nobody_to_tell() -> None:
    """Without a gateway or a file there is no thread."""
    reporter = Reporter("train", "", {})
    reporter.report(1, 2, "steps")
    reporter.close()

"""How the teacher is asked: as fast as it answers, patiently, never twice for nothing; and what ends it."""

from __future__ import annotations

import json
import os
import signal
import threading
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.unit.trainer import tiny
from tests.unit.trainer.gateway import COST, INFO, FakeGateway, prompt_of, serving
from tests.unit.trainer.pipeline import HASHES, finished
from tests.unit.trainer.test_endpoint_traces import WORDS, execute, lines, spec, told

from distillery.api import reasons
from distillery.api.refusals import snake
from distillery.api.result import OUT_OF_BUDGET, TEMPORARY, TERMINATED, USER_MISTAKE
from distillery_trainer.errors import StageError
from distillery_trainer.teacher.endpoint import asking, session
from distillery_trainer.teacher.endpoint.kept import Kept

Script = Callable[[dict[str, Any], int], Any]


@pytest.fixture(autouse=True)
def _hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without back-off, and with pieces after every few answers."""
    monkeypatch.setattr("distillery_trainer.teacher.endpoint.pace._FIRST_DELAY", 0.001)
    monkeypatch.setattr(session, "PIECE_ANSWERS", 3)
    monkeypatch.setattr(session, "PIECE_SECONDS", 0.2)


def once(trouble: Any, then: Script = told, **only: str) -> Script:
    """Trouble at the first attempt (of the named prompt), then an answer."""

    def script(body: dict[str, Any], attempt: int) -> Any:
        hit = only.get("prompt", prompt_of(body)) == prompt_of(body)
        return trouble if hit and attempt == 0 else then(body, attempt)

    return script


@pytest.mark.parametrize(
    "trouble",
    [
        (429, "rate_limit_exceeded", {"Retry-After": "0.01"}),
        (503, "gateway_unavailable", {}),
        (503, "gateway_unavailable", {"Retry-After": "inf"}),
        (503, "ledger_read_only", {"Retry-After": "0"}),
        (502, "in_doubt", {}),
        (500, "", {}),
        (401, "token_invalid", {}),
    ],
    ids=lambda trouble: f"{trouble[0]} {trouble[1]}",
)
def test_what_may_heal_is_asked_again(tmp_path: Path, trouble: Any) -> None:
    with serving(FakeGateway(once(trouble))) as gateway:
        code, place = execute(tmp_path, gateway, "traces", spec(tmp_path))
        assert code == 0, place.result().message
    assert len(gateway.bought) == 16
    assert len(gateway.asked) == 32
    _, files = finished(tmp_path, "traces")
    assert lines(files, "dropped.jsonl") == []


@pytest.mark.parametrize(("retries", "attempts"), [({}, 2), ({"retriesInDoubt": 0}, 1), ({"retriesInDoubt": 3}, 4)])
def test_an_outcome_in_doubt_is_tried_again_as_often_as_the_job_says(tmp_path: Path, retries: dict[str, int], attempts: int) -> None:
    """Each attempt is booked at its worst case; then the row goes without."""
    doubt = (502, "in_doubt", {})
    with serving(FakeGateway(lambda body, attempt: doubt if prompt_of(body) == "say fox" else told(body, attempt))) as gateway:
        endpoint = {"maxFailureRatio": "0.1", **retries}
        assert execute(tmp_path, gateway, "traces", spec(tmp_path, endpoint=endpoint))[0] == 0
    assert Counter(map(prompt_of, gateway.asked))["say fox"] == attempts
    _, files = finished(tmp_path, "traces")
    assert [(line["id"], line["reason"], line["detail"]) for line in lines(files, "dropped.jsonl")] == [
        ("fox", "unanswered", "the gateway's sentence on in_doubt")
    ]


HEALS = {
    "budget_exhausted": (429, "BudgetExhausted"),
    "budget_paused": (429, "BudgetPaused"),
    "overrun": (429, "Overrun"),
    "terms_forbid_use": (403, "TermsForbidUse"),
    "credential_missing": (403, "CredentialMissing"),
    "base_url_forbidden": (403, "BaseURLForbidden"),
    "model_not_found": (404, "TeacherUnknown"),
    "teacher_unknown": (404, "TeacherUnknown"),
}


@pytest.mark.parametrize("code", HEALS)
def test_a_refusal_that_can_heal_keeps_what_is_there(tmp_path: Path, code: str) -> None:
    """Exit 76; the next run asks the rest alone."""
    status, reason = HEALS[code]
    closed = threading.Event()

    def script(body: dict[str, Any], attempt: int) -> Any:
        return (status, code, {"X-Distillery-Resumes": "2026-12-01T00:00:00Z"}) if closed.is_set() else told(body, attempt)

    def until_seven(body: dict[str, Any], attempt: int) -> Any:
        if len(gateway.bought) >= 7:
            closed.set()
        return script(body, attempt)

    gateway = FakeGateway(until_seven)
    with serving(gateway):
        ended, place = execute(tmp_path, gateway, "traces", spec(tmp_path))
        assert (ended, place.result().reason) == (OUT_OF_BUDGET, reason)
        assert f"the gateway's sentence on {code}; it resumes at 2026-12-01T00:00:00Z" in place.result().message
        first = len(gateway.asked)
        gateway.script = told
        assert execute(tmp_path, gateway, "traces", spec(tmp_path))[0] == 0
    assert len(gateway.bought) == 16
    assert len(gateway.asked) - first == 16 - 7


STOPS = (
    reasons.BEING_DELETED, reasons.JOB_ENDED, reasons.CANCELLED, reasons.SUSPENDED, reasons.ANOTHER_RUN, reasons.RUN_ENDED,
    reasons.POD_ENDED, reasons.NOT_RESERVED,
)  # fmt: skip


@pytest.mark.parametrize("reason", STOPS)
def test_a_run_that_is_being_taken_back_is_no_failure_and_waits_for_its_end(tmp_path: Path, reason: str) -> None:
    """SIGTERM comes a moment later than the refusal; and what was a mistake of a moment is asked again."""

    def script(body: dict[str, Any], attempt: int) -> Any:
        return (403, snake(reason), {}) if len(gateway.asked) < 3 else told(body, attempt)

    gateway = FakeGateway(script)
    with serving(gateway):
        assert execute(tmp_path, gateway, "traces", spec(tmp_path))[0] == 0


def test_a_pod_that_is_none_of_a_stage_is_told_so(tmp_path: Path) -> None:
    with serving(FakeGateway(told, info=(403, "not_a_stage_pod", {}))) as gateway:
        for kind in ("preflight", "traces"):
            tiny.save(tmp_path / "student", tiny.model(), tiny.tokenizer())
            code, place = execute(tmp_path, gateway, kind, spec(tmp_path))
            assert (code, place.result().reason) == (USER_MISTAKE, "AccessDenied")
    assert gateway.asked == []


def test_preflight_waits_for_the_platform_team(tmp_path: Path) -> None:
    tiny.save(tmp_path / "student", tiny.model(), tiny.tokenizer())
    with serving(FakeGateway(told, info=(403, "approval_expired", {}))) as gateway:
        code, place = execute(tmp_path, gateway, "preflight", spec(tmp_path))
    assert (code, place.result().reason) == (OUT_OF_BUDGET, "ApprovalExpired")


def test_a_gateway_that_stays_away_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """For this pod: exit 75, and the next one tries again."""
    monkeypatch.setattr(asking.Patience, "__init__", lambda self, **_: self.__dict__.update(silence=0.3, grace=1.0))
    gateway = FakeGateway(told, url="http://127.0.0.1:9")
    code, place = execute(tmp_path, gateway, "traces", spec(tmp_path))
    assert (code, place.result().reason) == (TEMPORARY, "GatewayUnavailable")
    assert "the gateway does not answer" in place.result().message


def test_sigterm_keeps_the_answers_and_the_next_run_asks_the_rest(tmp_path: Path) -> None:
    """What was under way is waited for, for a while."""

    def script(body: dict[str, Any], attempt: int) -> Any:
        if len(gateway.bought) == 6:
            os.kill(os.getpid(), signal.SIGTERM)
        return told(body, attempt)

    gateway = FakeGateway(script)
    with serving(gateway):
        code, place = execute(tmp_path, gateway, "traces", spec(tmp_path))
        assert (code, place.result().reason) == (TERMINATED, "Terminated")
        first = len(gateway.bought)
        assert 6 < first < 16
        gateway.script = told
        assert execute(tmp_path, gateway, "traces", spec(tmp_path))[0] == 0
    assert len(gateway.asked) == len(gateway.bought) == 16
    manifest, _ = finished(tmp_path, "traces")
    assert manifest.lineage["usage"]["cost"] == "0.024"


def test_what_is_asked_again_costs_nothing(tmp_path: Path) -> None:
    """Pieces that were lost are in the gateway's cache."""
    with serving(FakeGateway(told)) as gateway:
        assert execute(tmp_path, gateway, "traces", spec(tmp_path))[0] == 0
        for path in (tmp_path / "out").rglob("manifest.json"):
            path.unlink()
        assert execute(tmp_path, gateway, "traces", spec(tmp_path))[0] == 0
    manifest, _ = finished(tmp_path, "traces")
    assert (manifest.lineage["usage"]["requests"], manifest.lineage["usage"]["cacheHits"], manifest.lineage["usage"]["cost"]) == (
        0,
        16,
        "0.00",
    )
    assert len(gateway.bought) == 16


@pytest.mark.parametrize(("code", "ends"), [(TEMPORARY, 0), (USER_MISTAKE, USER_MISTAKE)])
def test_a_store_that_takes_no_answers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int, ends: int) -> None:
    """What heals by itself is waited out; credentials that may not write end the run before more is paid for."""
    keep, calls = Kept.keep, Counter[str]()

    def refuse(self: Kept, *arguments: Any) -> None:
        calls["keep"] += 1
        if calls["keep"] < 3 or code == USER_MISTAKE:
            raise StageError("AccessDenied", "no", code)
        keep(self, *arguments)

    monkeypatch.setattr(Kept, "keep", refuse)
    rows = [{"id": str(n), "prompt": f"say {n}"} for n in range(120)]
    with serving(FakeGateway(told, delay=0.05)) as gateway:
        assert execute(tmp_path, gateway, "traces", spec(tmp_path, rows=rows))[0] == ends
    assert (len(gateway.bought) == 124) == (ends == 0)


def test_the_last_shard_puts_all_together(tmp_path: Path) -> None:
    with serving(FakeGateway(told)) as gateway:
        job = spec(tmp_path, endpoint={"shards": 2})
        code, place = execute(tmp_path, gateway, "traces", job, JOB_COMPLETION_INDEX="1")
        assert (code, place.result().manifest) == (0, None)
        assert "shard 2 of 2 is done: 8 answers" in place.result().message
        assert len(gateway.bought) == 8
        code, place = execute(tmp_path, gateway, "traces", job, JOB_COMPLETION_INDEX="0")
        assert code == 0
        assert place.result().manifest is not None
    manifest, files = finished(tmp_path, "traces")
    assert [row["id"] for row in lines(files, "train.jsonl")] == list(WORDS)
    shards = manifest.lineage["usage"]["shards"]
    assert [(shard["shard"], shard["requests"]) for shard in shards] == [(0, 8), (1, 8)]
    assert not (tmp_path / f"out/stages/traces-{HASHES['traces']}/work/uid-1").exists()


def test_shards_that_finish_at_once_commit_once(tmp_path: Path) -> None:
    """Both see that all is there; the loser takes over what the winner has made, even if the pieces are gone by then."""
    job = spec(tmp_path, endpoint={"shards": 2})
    with serving(FakeGateway(told)) as gateway:
        execute(tmp_path, gateway, "traces", job, JOB_COMPLETION_INDEX="1")
        kept = next((tmp_path / "out").rglob("part-00001.json")).parent
        saved = {path.name: path.read_bytes() for path in kept.iterdir()}
        execute(tmp_path, gateway, "traces", job, JOB_COMPLETION_INDEX="0")
        won = json.loads(next((tmp_path / "out").rglob("manifest.json")).read_text())
        # the other shard as it is when it has just seen that both are done
        kept.mkdir(parents=True)
        for name, data in saved.items():
            if name.startswith("part"):
                (kept / name).write_bytes(data)
        manifest = next((tmp_path / "out").rglob("manifest.json"))
        code, place = execute(tmp_path, gateway, "traces", job, JOB_COMPLETION_INDEX="1")
        assert (code, place.result().adopted) == (0, True)
        assert json.loads(manifest.read_text()) == won


def test_a_shard_that_there_is_none_of(tmp_path: Path) -> None:
    with serving(FakeGateway(told)) as gateway:
        code, place = execute(tmp_path, gateway, "traces", spec(tmp_path), JOB_COMPLETION_INDEX="1")
    assert code == USER_MISTAKE
    assert "this pod is number 1, but there are 1 shards" in place.result().message


def test_many_are_asked_at_once_and_no_more_than_the_teacher_takes(tmp_path: Path) -> None:
    rows = [{"id": str(n), "prompt": f"say {n}"} for n in range(300)]
    with serving(FakeGateway(told, delay=0.01)) as gateway:
        gateway.info = {**INFO, "teacher": {**INFO["teacher"], "rateLimits": {"maxConcurrency": 9}}}
        assert execute(tmp_path, gateway, "traces", spec(tmp_path, rows=rows))[0] == 0
    assert gateway.most_in_flight == 9
    assert COST * 304 == 456_000_000


def test_a_budget_is_used_up_to_its_last_whole_request(tmp_path: Path) -> None:
    """What is refused while others hold their worst case is asked again once they have given it back."""

    def script(body: dict[str, Any], attempt: int) -> Any:
        # money for 11 answers, and for one worst case at a time
        return (429, "budget_exhausted", {}) if len(gateway.bought) >= 11 or gateway.in_flight > 1 else told(body, attempt)

    gateway = FakeGateway(script, delay=0.02)
    with serving(gateway):
        ended, place = execute(tmp_path, gateway, "traces", spec(tmp_path))
    assert (ended, place.result().reason) == (OUT_OF_BUDGET, "BudgetExhausted")
    assert len(gateway.bought) == 11

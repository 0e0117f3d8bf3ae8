"""The border of a stage: commit, adoption, and what each kind of end says."""

from __future__ import annotations

import errno
import json
import signal
import sys
import types
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.unit.trainer import tiny

from distillery.api.measure import EvaluationResult
from distillery.api.result import StageResult, parse_result
from distillery_trainer.errors import StageError, Stopped, unavailable
from distillery_trainer.runner import commit
from distillery_trainer.runner.context import Outcome, StageContext
from distillery_trainer.runner.manifest import Creator, Manifest
from distillery_trainer.stores import open_store

HASH = "a" * 64
Run = Callable[[StageContext], Outcome]


@pytest.fixture
def place(tmp_path: Path) -> tiny.Place:
    """A job whose stage is a function of the test."""
    return tiny.Place(tmp_path, tiny.spec(tmp_path))


@pytest.fixture
def execute(place: tiny.Place, monkeypatch: pytest.MonkeyPatch) -> Callable[..., int]:
    """Run `run` as the curate stage; its exit code."""

    def call(run: Run, **members: object) -> int:
        module = types.ModuleType("distillery_trainer.stages.curate")
        module.__dict__.update(run=run, **members)
        monkeypatch.setitem(sys.modules, "distillery_trainer.stages.curate", module)
        return place.execute("curate", HASH, {"traces": "b" * 64})

    return call


def made(context: StageContext) -> Outcome:
    """One file and some numbers."""
    folder = context.new_folder("output")
    (folder / "deep").mkdir()
    (folder / "deep/kept.jsonl").write_text("{}")
    context.output.write(f"{context.work_folder}/piece", b"1")
    return Outcome(folder, StageResult(message="well"), {"of": "x"}, {"loss": 0.5, "worst": float("inf")}, {"rows": 1})


def never(_: StageContext) -> Outcome:
    """A stage that must not run."""
    raise AssertionError("ran again")


def test_manifest_is_the_commit(execute: Callable[..., int], place: tiny.Place, tmp_path: Path) -> None:
    """It lists every file with size and sha256, who made it and what was said; what was work in progress is gone."""
    assert execute(made) == 0
    folder = tmp_path / "out/stages" / f"curate-{HASH}"
    told = json.loads((folder / "manifest.json").read_text())
    assert told["files"] == [
        {"path": "deep/kept.jsonl", "sha256": "44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a", "sizeBytes": 2}
    ]
    assert told["createdBy"] == {"namespace": "team", "job": "job", "uid": "uid-1"}
    assert told["metrics"] == {"loss": 0.5}
    assert sorted(p.name for p in folder.iterdir() if any(p.rglob("*")) or p.is_file()) == sorted(["manifest.json", told["root"]])
    result = place.result()
    assert (result.message, result.adopted, result.reason) == ("well", False, None)
    assert result.manifest == f"file://{folder}/manifest.json"
    assert {m.name: m.value for m in result.metrics} == {"loss": "0.5", "worst": "inf"}


def test_finished_stage_is_adopted(execute: Callable[..., int], place: tiny.Place) -> None:
    """And says what it said."""
    assert execute(made) == 0
    assert execute(never) == 0
    assert place.result().adopted
    assert place.result().message == "well"


def test_what_is_outside_the_hash_is_decided_each_time(execute: Callable[..., int], place: tiny.Place) -> None:
    """`conclude` runs after a commit and after an adoption; a missed gate keeps what was measured."""

    def conclude(_: StageContext, manifest: Manifest) -> StageResult:
        found = StageResult(evaluation=EvaluationResult(rows=manifest.counts["rows"], passed=False))
        raise StageError("QualityGateFailed", "retention 0.5 < 0.9", result=found)

    for run in (made, never):
        assert execute(run, conclude=conclude) == 64
        result = place.result()
        assert (result.reason, result.message) == ("QualityGateFailed", "retention 0.5 < 0.9")
        assert result.evaluation == EvaluationResult(rows=1, passed=False)


def fails(error: BaseException) -> Run:
    """A stage that ends so."""

    def run(_: StageContext) -> Outcome:
        raise error

    return run


@pytest.mark.parametrize(
    ("error", "code", "reason", "told"),
    [
        (StageError("BadInput", "field x: y"), 64, "BadInput", "field x: y"),
        (unavailable("store is away"), 75, "StoreUnavailable", "store is away"),
        (OSError(errno.ENOSPC, "No space left on device", "/work/x"), 64, "DiskFull", "/work/x: raise limits.ephemeral-storage"),
        (RuntimeError("Error: I/O error: No space left on device (os error 28)"), 64, "DiskFull", "raise limits.ephemeral-storage"),
        (MemoryError(), 64, "OutOfMemory", "lower training.microBatchSize"),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried"), 64, "OutOfMemory", "training.maxSequenceLength"),
        (KeyError("lost"), 1, "InternalError", "KeyError: 'lost' (a fault of the program"),
        (Stopped("checkpoint 7 is kept"), 143, "Terminated", "checkpoint 7 is kept"),
    ],
)
def test_each_end_has_its_code_reason_and_remedy(
    execute: Callable[..., int], place: tiny.Place, error: BaseException, code: int, reason: str, told: str
) -> None:
    """0, 64, 75, 143; anything else is a bug."""
    assert execute(fails(error)) == code
    assert place.result().reason == reason
    assert told in place.result().message


def test_real_exhaustion_of_gpu_or_cpu_memory_is_known(execute: Callable[..., int], place: tiny.Place) -> None:
    """torch's own words, not an imitation."""

    def run(_: StageContext) -> Outcome:
        import torch

        torch.empty(1 << 55)
        raise AssertionError("allocated")

    assert execute(run) == 64
    assert place.result().reason == "OutOfMemory"


def test_sigterm_interrupts_a_stage_that_does_not_look(execute: Callable[..., int], place: tiny.Place, tmp_path: Path) -> None:
    """Nothing is committed."""

    def run(context: StageContext) -> Outcome:
        signal.raise_signal(signal.SIGTERM)
        return made(context)

    assert execute(run) == 143
    assert place.result().reason == "Terminated"
    assert not (tmp_path / "out").exists()


def test_sigterm_waits_for_a_stage_that_stops_itself(execute: Callable[..., int], place: tiny.Place) -> None:
    """It sees the event; if it was about to end, it ends well."""

    def run(context: StageContext) -> Outcome:
        signal.raise_signal(signal.SIGTERM)
        assert context.stopping.is_set()
        return made(context)

    assert execute(run, STOPS_ITSELF=True) == 0


@pytest.mark.parametrize(("text", "told"), [("{}", "namespace"), (None, "cannot be read"), ("not json", "Invalid JSON")])
def test_broken_frozen_job_is_told(execute: Callable[..., int], place: tiny.Place, tmp_path: Path, text: str | None, told: str) -> None:
    """File and field."""
    (tmp_path / "job.json").unlink()
    if text is not None:
        (tmp_path / "job.json").write_text(text)
    assert execute(made) == 64
    assert told in place.result().message


def test_long_result_is_trimmed_to_what_the_kubelet_keeps(execute: Callable[..., int], tmp_path: Path) -> None:
    """It stays JSON."""

    def run(_: StageContext) -> Outcome:
        raise StageError("BadInput", "ä" * 5000)

    assert execute(run) == 64
    data = (tmp_path / "result.json").read_bytes()
    assert len(data) <= 4096
    assert parse_result(data.decode()) is not None


def draft(uid: str) -> Manifest:
    """A manifest before its commit."""
    creator = Creator(namespace="n", job="j", uid=uid)
    return Manifest(stage="train", hash="c" * 64, format=1, root="", files=(), created_by=creator, result=StageResult())


def test_loser_of_a_race_adopts_and_leaves_nothing(tmp_path: Path) -> None:
    """Its files never lie where the winner's do."""
    store = open_store(f"file://{tmp_path}/out", "output", {})
    for uid in ("1", "2"):
        (tmp_path / uid).mkdir()
        (tmp_path / uid / "model").write_text(uid)
    first, adopted_first = commit.commit(store, "stages/train-c", tmp_path / "1", draft("1"))
    second, adopted_second = commit.commit(store, "stages/train-c", tmp_path / "2", draft("2"))
    assert (adopted_first, adopted_second) == (False, True)
    assert second == first
    assert {e.path for e in store.list()} == {"stages/train-c/manifest.json", f"stages/train-c/{first.root}/model"}


def test_manifest_whose_files_are_gone_is_replaced(tmp_path: Path) -> None:
    """A lifecycle rule may have taken them."""
    store = open_store(f"file://{tmp_path}/out", "output", {})
    (tmp_path / "in").mkdir()
    (tmp_path / "in/model").write_text("x")
    first, _ = commit.commit(store, "s", tmp_path / "in", draft("1"))
    store.delete(f"s/{first.root}")
    assert commit.find(store, "s") is None
    second, adopted = commit.commit(store, "s", tmp_path / "in", draft("2"))
    assert not adopted
    assert commit.find(store, "s") == second


def test_damaged_file_is_found_when_it_is_fetched(tmp_path: Path) -> None:
    """By its sha256; the message says how to have the stage run again."""
    store = open_store(f"file://{tmp_path}/out", "output", {})
    (tmp_path / "in").mkdir()
    (tmp_path / "in/model").write_text("x")
    manifest, _ = commit.commit(store, "s", tmp_path / "in", draft("1"))
    (tmp_path / "out/s" / manifest.root / "model").write_text("y")
    with pytest.raises(StageError, match=r"is damaged.*; delete file://.*/s/manifest\.json to have the stage run again"):
        commit.fetch(store, "s", manifest, tmp_path / "got")


def test_what_is_no_manifest_is_told(tmp_path: Path) -> None:
    """With the first field that is wrong."""
    store = open_store(f"file://{tmp_path}", "output", {})
    store.write("s/manifest.json", b'{"stage": 3}')
    with pytest.raises(StageError, match="is not the manifest of a stage"):
        commit.find(store, "s")

"""A tiny job's stages, run in order in one folder, each as its pod runs it."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tests.unit.trainer import tiny

from distillery_trainer.runner.commit import fetch, read_manifest
from distillery_trainer.runner.manifest import Manifest
from distillery_trainer.stores import open_store

HASHES = {"traces": "a" * 64, "curate": "b" * 64, "train": "c" * 64, "evaluate": "d" * 64}
WORDS = ("fox", "dog", "city", "six", "lazy", "over", "Paris", "seven", "brown", "France", "quick", "jumps")
SCRATCH = {"numHiddenLayers": 1, "hiddenSize": 32, "intermediateSize": 64, "numAttentionHeads": 4, "maxPositionEmbeddings": 64}
TRAINING = {"globalBatchSize": 4, "maxSequenceLength": 64, "maxSteps": 12, "learningRate": "0.01", "checkpoint": {"everySteps": 5}}


def specification(root: Path, **spec: Any) -> dict[str, Any]:
    """A job whose teacher and rows are in `root`."""
    return tiny.spec(root, **{"student": {"scratch": SCRATCH}, "training": TRAINING, **spec})


def execute(root: Path, kind: str, spec: Mapping[str, Any], uid: str = "uid-1") -> tuple[int, tiny.Place]:
    """Run one stage; its exit code and its place."""
    job = tiny.Place(root, spec, uid)
    shutil.rmtree(root / "work", ignore_errors=True)  # each pod has scratch of its own
    return job.execute(kind, HASHES[kind], {k: v for k, v in HASHES.items() if k != kind}), job


def succeed(root: Path, kind: str, spec: Mapping[str, Any]) -> tuple[Manifest, Path]:
    """Run one stage, which must end well; its manifest and its files."""
    code, job = execute(root, kind, spec)
    assert code == 0, job.result().message
    return finished(root, kind)


def finished(root: Path, kind: str) -> tuple[Manifest, Path]:
    """The manifest of a stage that is done, and its files."""
    store, folder = open_store(f"file://{root}/out", "output", {}), f"stages/{kind}-{HASHES[kind]}"
    manifest = read_manifest(store, folder)
    return manifest, fetch(store, folder, manifest, root / "fetched" / kind)


def trace(root: Path, **spec: Any) -> None:
    """Make teacher and rows in `root`, and run the stages before training."""
    tiny.save(root / "teacher", tiny.model(), tiny.tokenizer())
    rows = [{"prompt": f"say {word} {n}", "completion": f"{word} it is" + " so" * n, "answer": word} for word in WORDS for n in range(2)]
    tiny.lines(root / "train.jsonl", rows)
    tiny.lines(root / "heldout.jsonl", [{**row, "prompt": f"tell {row['prompt']}"} for row in rows[::4]])
    for kind in ("traces", "curate"):
        succeed(root, kind, specification(root, **spec))


def copied(traced: Path, root: Path) -> Path:
    """`root` with the finished stages of `traced`, in which a test may go on."""
    shutil.copytree(traced / "out", root / "out")
    for name in ("teacher", "train.jsonl", "heldout.jsonl"):
        (root / name).symlink_to(traced / name)
    return root

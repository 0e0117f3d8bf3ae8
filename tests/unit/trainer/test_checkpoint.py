"""A checkpoint is whole or does not count; what is restored goes on as if nothing had happened."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import numpy
import pytest
import torch

from distillery_trainer.stores import Store, open_store
from distillery_trainer.training.checkpoint import Checkpoints, TrainingState

WRITES = {"put", "write", "upload", "delete"}


class Killed(BaseException):
    """The process ends here."""


class Fragile:
    """A store whose process is killed at its n-th write; an upload counts each of its files, a deletion stops half way."""

    def __init__(self, store: Store, survives: int) -> None:
        self._store, self._left = store, survives

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    def _count(self) -> None:
        self._left -= 1
        if self._left < 0:
            raise Killed

    def write(self, path: str, data: bytes) -> None:
        self._count()
        self._store.write(path, data)

    def upload(self, folder: Path, prefix: str) -> None:
        for file in sorted(folder.iterdir()):
            self._count()
            self._store.put(file, f"{prefix}/{file.name}")

    def delete(self, prefix: str) -> None:
        for entry in self._store.list(prefix):
            self._count()
            self._store.delete(entry.path)


def state(seed: int = 0) -> TrainingState:
    """A model of two tensors that has done no step."""
    generator = torch.Generator().manual_seed(seed)
    parameters = {name: torch.nn.Parameter(torch.randn(size, generator=generator)) for name, size in (("a/w", (4, 3)), ("b", (3,)))}
    return TrainingState(0, parameters, torch.optim.AdamW(list(parameters.values()), lr=0.1, fused=True), [])


def step(made: TrainingState) -> None:
    """One optimizer step on a loss that draws from all generators."""
    noise = float(torch.rand(())) + random.random() + float(numpy.random.rand())
    loss = sum(((p - noise) ** 2).sum() for p in made.parameters.values())
    assert isinstance(loss, torch.Tensor)
    made.optimizer.zero_grad()
    loss.backward()
    made.optimizer.step()
    made.step += 1
    made.log.append({"step": made.step, "loss": loss.item()})


def seed_all() -> None:
    """Global generators in a known state."""
    torch.manual_seed(3)
    random.seed(3)
    numpy.random.seed(3)


def opened(tmp_path: Path) -> Store:
    """The store of a test."""
    return open_store(f"file://{tmp_path}/out", "output", {})


def straight(steps: int) -> TrainingState:
    """What an undisturbed run comes to."""
    seed_all()
    made = state()
    for _ in range(steps):
        step(made)
    return made


def test_a_resumed_run_equals_a_straight_one_bit_for_bit(tmp_path: Path) -> None:
    seed_all()
    first = state()
    for _ in range(5):
        step(first)
    Checkpoints(opened(tmp_path), "work", tmp_path / "w1").save(first)
    random.seed(99)
    torch.manual_seed(99)
    numpy.random.seed(99)
    second = state(seed=7)
    assert Checkpoints(opened(tmp_path), "work", tmp_path / "w2").restore(second)
    for _ in range(4):
        step(second)
    expected = straight(9)
    assert second.log == expected.log
    assert second.step == 9
    for name, parameter in second.parameters.items():
        assert torch.equal(parameter, expected.parameters[name])


def test_nothing_is_restored_where_nothing_was_saved(tmp_path: Path) -> None:
    made = state()
    assert not Checkpoints(opened(tmp_path), "work", tmp_path / "w").restore(made)
    assert made.step == 0


@pytest.mark.parametrize("survives", range(12))
def test_a_kill_at_any_write_leaves_the_newest_whole_checkpoint(tmp_path: Path, survives: int) -> None:
    seed_all()
    made, store = state(), opened(tmp_path)
    for _ in range(3):
        step(made)
        Checkpoints(store, "work", tmp_path / "w").save(made)
    step(made)
    finished = True
    try:
        Checkpoints(Fragile(store, survives), "work", tmp_path / "w").save(made)  # type: ignore[arg-type]
    except Killed:
        finished = False
    again = state()
    assert Checkpoints(store, "work", tmp_path / "w2").restore(again)
    # four files go up (three and the marker); from then on the new one counts, whatever is left of the old ones
    assert again.step == (4 if survives >= 4 else 3)
    assert again.log == straight(again.step).log
    assert finished == (survives >= 8)
    step(again)
    Checkpoints(store, "work", tmp_path / "w2").save(again)
    kept = {entry.path.split("/")[1] for entry in store.list("work")}
    assert kept == {f"checkpoint-{again.step}", f"checkpoint-{again.step - 1}"}


@pytest.mark.parametrize("damage", ["cut", "gone"])
def test_a_damaged_checkpoint_costs_its_steps_only(tmp_path: Path, damage: str) -> None:
    seed_all()
    made, store = state(), opened(tmp_path)
    for _ in range(2):
        step(made)
        Checkpoints(store, "work", tmp_path / "w").save(made)
    file = tmp_path / "out" / "work" / "checkpoint-2" / "tensors.safetensors"
    if damage == "cut":
        file.write_bytes(file.read_bytes()[:-1])
    else:
        file.unlink()
    again = state()
    assert Checkpoints(store, "work", tmp_path / "w2").restore(again)
    assert again.step == 1


def test_the_last_two_are_kept(tmp_path: Path) -> None:
    made, store = state(), opened(tmp_path)
    for _ in range(5):
        step(made)
        Checkpoints(store, "work", tmp_path / "w").save(made)
    assert {entry.path.split("/")[1] for entry in store.list("work")} == {"checkpoint-4", "checkpoint-5"}
    assert not list((tmp_path / "w").iterdir())

"""Checkpoints that are whole or do not count: files first, then a marker with their digests, written last.

One holds everything that the next step depends on: trained weights, optimizer, random generators, step (which is the position in the data)
and the log so far. Tensors are safetensors and the rest is JSON: reading one runs no code. A pod killed at any point leaves the newest
whole one usable; the last two are kept, so that a damaged one costs its steps only.
"""

from __future__ import annotations

import json
import logging
import random
import re
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy
import torch
from safetensors.torch import load_file, save_file

from distillery_trainer.errors import Missing
from distillery_trainer.stores import Store, safe_join
from distillery_trainer.stores.digests import sha256_of

log = logging.getLogger(__name__)
MARKER, TENSORS, STATE, LOG = "complete.json", "tensors.safetensors", "state.json", "log.jsonl"
KEPT = 2
_FOLDER = re.compile(r"(?:^|/)checkpoint-(\d+)/")


class DamagedError(Exception):
    """A file of a checkpoint is not the one that its marker speaks of."""


@dataclass
class TrainingState:
    """What a checkpoint is taken of and put back into: `step` optimizer steps are done."""

    step: int
    parameters: Mapping[str, torch.nn.Parameter]
    optimizer: torch.optim.Optimizer
    log: list[dict[str, Any]]


class Checkpoints:
    """Those of one job and stage, in the store under `folder`; `work` is local scratch."""

    def __init__(self, store: Store, folder: str, work: Path) -> None:
        self._store, self._folder, self._work = store, folder, work

    def save(self, state: TrainingState) -> None:
        """Write a checkpoint, then let go of those before the one before."""
        local = self._work / f"saving-{state.step}"
        shutil.rmtree(local, ignore_errors=True)
        local.mkdir(parents=True)
        save_file(_tensors(state), local / TENSORS)
        (local / STATE).write_text(json.dumps({"step": state.step, "random": _generators()}))
        (local / LOG).write_text("".join(json.dumps(line) + "\n" for line in state.log))
        place = self._place(state.step)
        marker = {name: sha256_of(local / name) for name in (TENSORS, STATE, LOG)}
        self._store.upload(local, place)
        self._store.write(f"{place}/{MARKER}", json.dumps(marker).encode())
        shutil.rmtree(local)
        self._forget_older(state.step)

    def restore(self, state: TrainingState) -> bool:
        """Put the newest whole checkpoint into `state`; False if there is none."""
        for step in sorted(self._steps(complete=True), reverse=True):
            try:
                files = self._fetched(step)
            except (Missing, DamagedError) as error:
                log.warning("checkpoint %d does not count: %s", step, error)
                continue
            _put_back(files, state)
            log.info("resumed from checkpoint %d", step)
            return True
        return False

    def _place(self, step: int) -> str:
        return f"{self._folder}/checkpoint-{step}"

    def _steps(self, complete: bool) -> set[int]:
        paths = [entry.path for entry in self._store.list(self._folder)]
        return {int(found[1]) for path in paths if (found := _FOLDER.search(path)) and (not complete or path.endswith(f"/{MARKER}"))}

    def _fetched(self, step: int) -> Path:
        """The files of a checkpoint, each as its marker says."""
        local = self._work / f"checkpoint-{step}"
        marker = json.loads(self._store.read(f"{self._place(step)}/{MARKER}"))
        for name, digest in marker.items():
            place = safe_join(local, name)
            self._store.get(f"{self._place(step)}/{name}", place)
            if sha256_of(place) != digest:
                raise DamagedError(f"{name} is not what was written")
        return local

    def _forget_older(self, newest: int) -> None:
        kept = sorted((step for step in self._steps(complete=True) if step <= newest), reverse=True)[:KEPT]
        for step in self._steps(complete=False):
            if step < newest and step not in kept:
                self._store.delete(self._place(step))


def _tensors(state: TrainingState) -> dict[str, torch.Tensor]:
    tensors = {f"model/{name}": parameter.detach() for name, parameter in state.parameters.items()}
    for name, parameter in state.parameters.items():
        for key, value in state.optimizer.state[parameter].items():
            tensors[f"optimizer/{key}/{name}"] = value
    tensors["random/torch"] = torch.get_rng_state()
    if torch.cuda.is_available():
        tensors |= {f"random/cuda/{index}": value for index, value in enumerate(torch.cuda.get_rng_state_all())}
    return {name: tensor.contiguous() for name, tensor in tensors.items()}


def _put_back(folder: Path, state: TrainingState) -> None:
    tensors = load_file(folder / TENSORS)
    saved = json.loads((folder / STATE).read_text())
    with torch.no_grad():
        for name, parameter in state.parameters.items():
            parameter.copy_(tensors[f"model/{name}"])
            state.optimizer.state[parameter] = {
                key: tensors[f"optimizer/{key}/{name}"].to(parameter.device, copy=True) for key in _optimizer_keys(tensors, name)
            }
    torch.set_rng_state(tensors["random/torch"])
    cuda = [tensors[name] for name in sorted(tensors) if name.startswith("random/cuda/")]
    if cuda and torch.cuda.device_count() == len(cuda):
        torch.cuda.set_rng_state_all(cuda)
    _set_generators(saved["random"])
    state.step = saved["step"]
    state.log[:] = [json.loads(line) for line in (folder / LOG).read_text().splitlines()]


def _optimizer_keys(tensors: Mapping[str, torch.Tensor], name: str) -> Iterator[str]:
    """exp_avg, exp_avg_sq, step: whatever the optimizer keeps for a parameter."""
    return (parts[1] for key in tensors if (parts := key.split("/", 2))[0] == "optimizer" and parts[2] == name)


def _generators() -> dict[str, Any]:
    """Python's and numpy's global generators as JSON."""
    kind, keys, position, has_gauss, gauss = numpy.random.get_state(legacy=True)
    version, words, gauss_next = random.getstate()
    return {"python": [version, list(words), gauss_next], "numpy": [kind, [int(key) for key in keys], position, has_gauss, gauss]}


def _set_generators(saved: Mapping[str, Any]) -> None:
    version, words, gauss_next = saved["python"]
    random.setstate((version, tuple(words), gauss_next))
    kind, keys, *rest = saved["numpy"]
    numpy.random.set_state((kind, numpy.array(keys, dtype=numpy.uint32), *rest))

"""What a job needs at the very least, and what it has: a job that cannot fit is told so before it takes a node."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from distillery.api import reasons
from distillery.api.job import DistillationJobSpec
from distillery.api.scheduling import Resources
from distillery_trainer.errors import StageError
from distillery_trainer.stores import Store
from distillery_trainer.stores.folder import FolderStore

_UNITS = {"": 1, "m": 1e-3, "k": 1e3, "M": 1e6, "G": 1e9, "T": 1e12, "P": 1e15}
_UNITS |= {f"{prefix}i": 1024.0**power for power, prefix in enumerate("KMGTP", 1)}
#: Weights, gradients and the two moments of AdamW, in float32.
_TRAINING_BYTES = 16
#: The interpreter with torch and transformers.
_PROGRAM_BYTES = 400 << 20


class Sizes(NamedTuple):
    """Parameters of both models (0: not loaded by this job), and bytes of the signal that the traces stage writes."""

    teacher: int
    student: int
    signal_bytes: int
    teacher_file_bytes: int


def quantity(text: str | int) -> float:
    """A Kubernetes quantity as a number: "1.5Gi" is 1610612736."""
    found = re.fullmatch(r"([0-9.]+)([a-zA-Z]*)", str(text))
    if found is None:
        raise ValueError(f"{text!r} is not a Kubernetes quantity")
    return float(found[1]) * _UNITS[found[2]]


def memory_available(cgroup: Path = Path("/sys/fs/cgroup"), meminfo: Path = Path("/proc/meminfo")) -> float:
    """Bytes that this process may still take: the machine's, or what its cgroup leaves if that is less."""
    free = next((1024.0 * int(line.split()[1]) for line in meminfo.read_text().splitlines() if line.startswith("MemAvailable:")), 0.0)
    limit, used = cgroup / "memory.max", cgroup / "memory.current"
    if limit.exists() and (text := limit.read_text().strip()) != "max":
        return min(free, float(text) - float(used.read_text()))
    return free


def require_fit(spec: DistillationJobSpec, sizes: Sizes, output: Store) -> None:
    """StageError DoesNotFit, with the number and the field to change, where a limit is below what is needed at the very least."""
    for problem in (*_memory(spec, sizes), *_disk(spec, sizes, output)):
        raise StageError(reasons.DOES_NOT_FIT, problem)


def _memory(spec: DistillationJobSpec, sizes: Sizes) -> Iterator[str]:
    model, lora, stages = spec.teacher.model, spec.student.lora, spec.scheduling.stages
    width = 4 if model and model.precision == "float32" else 2
    training = sizes.student * (4 if lora else _TRAINING_BYTES)
    smaller = "lower the student's size" if lora else "lower the student's size or use student.lora"
    for name, resources, needed, remedy in (
        ("traces", stages.traces.resources, sizes.teacher * width, "use a smaller teacher"),
        ("train", stages.train.resources, training, smaller),
    ):
        limit = _limit(spec, resources, "memory")
        if limit is not None and needed + _PROGRAM_BYTES > limit:
            text = f"{_gib(limit)} is less than the {_gib(needed + _PROGRAM_BYTES)} that the weights"
            text += " with their optimizer state need at least" if name == "train" else " need at least"
            yield f"spec.scheduling.stages.{name}.resources.limits.memory: {text}: raise it, or {remedy}"


def _limit(spec: DistillationJobSpec, resources: Resources, name: str) -> float | None:
    """The limit in bytes, if one is set; weights on a GPU do not count against the pod's memory."""
    if any("gpu" in resource for resource in resources.limits):
        return None
    if name in resources.limits:
        return quantity(resources.limits[name])
    # A local run has this machine.
    return memory_available() if name == "memory" and spec.output.uri.startswith("file://") else None


def _disk(spec: DistillationJobSpec, sizes: Sizes, output: Store) -> Iterator[str]:
    stages = spec.scheduling.stages
    weights = 4 * sizes.student
    for name, resources, needed in (
        ("traces", stages.traces.resources, sizes.signal_bytes + sizes.teacher_file_bytes),
        ("train", stages.train.resources, sizes.signal_bytes + 3 * weights),
    ):
        limit = _limit(spec, resources, "ephemeral-storage")
        if limit is not None and needed > limit:
            field = f"spec.scheduling.stages.{name}.resources.limits.ephemeral-storage"
            yield f"{field}: {_gib(limit)} is less than the {_gib(needed)} that this stage writes to its scratch space: raise it"
    if isinstance(output, FolderStore):
        place = next(folder for folder in (output.root, *output.root.parents) if folder.exists())
        free, needed = shutil.disk_usage(place).free, sizes.signal_bytes + 4 * weights
        if needed > free:
            yield f"spec.output.uri: {_gib(free)} are free at {place}, and signal, checkpoints and model need {_gib(needed)}: make room"


def _gib(size: float) -> str:
    return f"{size / 2**30:.2f} GiB"

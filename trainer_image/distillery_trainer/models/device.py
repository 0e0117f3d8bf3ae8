"""Where tensors live and in which arithmetic: one place decides, so that every stage decides the same."""

from __future__ import annotations

import math
import os
import time
from pathlib import Path
from typing import Literal

import torch

Precision = Literal["auto", "float32", "bfloat16"]
_CGROUP = Path("/sys/fs/cgroup")
#: Instruction sets (as in /proc/cpuinfo) with which bfloat16 matrix products are native.
_BF16_FLAGS = {"avx512_bf16", "amx_bf16"}
#: bfloat16 has 8 bits of mantissa: it is taken only where it saves a fifth of the time or more.
_WORTHWHILE = 1.25
#: Products below this size (hidden x intermediate) take microseconds: timing them is noise, and such a model needs no speed.
_WORTH_TIMING = 1 << 19
#: Models below this number of parameters run on one thread.
_WORTH_THREADS = 8_000_000


def pick_device() -> torch.device:
    """The GPU if the pod has one, else the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def cpu_limit(cgroup: Path = _CGROUP) -> int:
    """Whole CPUs that this process may use: the smaller of its affinity mask and its cgroup's quota (v2, then v1), at least 1.

    A pod with a limit of 2 CPUs on a 64-core node sees 64 cores; 64 threads sharing 2 CPUs' time are slower than 2.
    """
    allowed = len(os.sched_getaffinity(0))
    v2, v1 = cgroup / "cpu.max", cgroup / "cpu" / "cpu.cfs_quota_us"
    if v2.exists():
        quota, period = v2.read_text().split()
    elif v1.exists():
        quota, period = v1.read_text().strip(), (v1.parent / "cpu.cfs_period_us").read_text().strip()
    else:
        quota, period = "max", "1"
    if quota in ("max", "-1"):
        return allowed
    return max(1, min(allowed, math.ceil(int(quota) / int(period))))


def set_threads(parameters: int | None = None) -> int:
    """Give torch as many threads as there are CPUs for it, and say how many (the same count gives the same bits after a resume).

    A model of few parameters gets one: its products take microseconds, and where other pods share the CPUs two threads wait for each
    other longer than they compute (seen: 0.6 s of CPU a step with two, 0.08 s with one). OMP_NUM_THREADS, where it is set, wins: it is
    what a platform team uses to override.
    """
    wanted = 1 if parameters is not None and parameters < _WORTH_THREADS else cpu_limit()
    threads = int(os.environ.get("OMP_NUM_THREADS") or wanted)
    torch.set_num_threads(threads)
    return threads


def training_dtype(precision: Precision, device: torch.device) -> torch.dtype:
    """Arithmetic of the student's matrix products: weights stay float32, bfloat16 means autocast."""
    if precision == "auto":
        return torch.bfloat16 if device.type == "cuda" and native_bfloat16(device) else torch.float32
    return torch.bfloat16 if precision == "bfloat16" else torch.float32


def autocast(dtype: torch.dtype, device: torch.device) -> torch.autocast:
    """The context in which a student with float32 weights is run in `dtype`."""
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=dtype == torch.bfloat16)


def frozen_dtype(precision: Precision, device: torch.device, hidden_size: int, intermediate_size: int) -> torch.dtype:
    """Arithmetic of a frozen model, chosen before it is loaded.

    On a CPU with native bfloat16, `auto` times the model's own feed-forward shape in both types and takes bfloat16 where it is clearly
    faster; a small model gains nothing and stays exact.
    """
    if precision != "auto" or device.type == "cuda":
        return training_dtype(precision, device)
    if hidden_size * intermediate_size < _WORTH_TIMING or not native_bfloat16(device):
        return torch.float32
    full, half = (_product_seconds(hidden_size, intermediate_size, dtype) for dtype in (torch.float32, torch.bfloat16))
    return torch.bfloat16 if full / half >= _WORTHWHILE else torch.float32


def native_bfloat16(device: torch.device) -> bool:
    """Whether products of bfloat16 are done in hardware."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    return bool(cpu_flags() & _BF16_FLAGS)


def cpu_flags(cpuinfo: Path = Path("/proc/cpuinfo")) -> set[str]:
    """Instruction sets of the CPU; empty where the kernel does not list them."""
    if not cpuinfo.exists():
        return set()
    line = next((line for line in cpuinfo.read_text().splitlines() if line.startswith("flags")), "")
    return set(line.partition(":")[2].split())


def _product_seconds(hidden: int, intermediate: int, dtype: torch.dtype, tokens: int = 256, repeats: int = 4) -> float:
    """Best time of [tokens, hidden] x [hidden, intermediate]; the first run, which sets up kernels, is not counted."""
    left, right = torch.ones(tokens, hidden, dtype=dtype), torch.ones(hidden, intermediate, dtype=dtype)
    best = math.inf
    for repeat in range(repeats + 1):
        start = time.perf_counter()
        torch.mm(left, right)
        if repeat:
            best = min(best, time.perf_counter() - start)
    return best

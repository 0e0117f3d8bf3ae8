"""Threads, arithmetic and device are chosen from what the pod has."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch

from distillery_trainer.models import device

CPU = torch.device("cpu")


@pytest.mark.parametrize(
    ("quota", "cpus"), [("max 100000", 4), ("200000 100000", 2), ("150000 100000", 2), ("50000 100000", 1), ("900000 100000", 4)]
)
def test_cpu_limit_is_the_smaller_of_quota_and_affinity(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, quota: str, cpus: int) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1, 2, 3})
    (tmp_path / "cpu.max").write_text(quota + "\n")
    assert device.cpu_limit(tmp_path) == cpus


@pytest.mark.parametrize(("quota", "cpus"), [("-1", 4), ("300000", 3)])
def test_cpu_limit_reads_cgroup_v1(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, quota: str, cpus: int) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1, 2, 3})
    (tmp_path / "cpu").mkdir()
    (tmp_path / "cpu" / "cpu.cfs_quota_us").write_text(quota)
    (tmp_path / "cpu" / "cpu.cfs_period_us").write_text("100000")
    assert device.cpu_limit(tmp_path) == cpus


def test_without_a_cgroup_the_affinity_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1, 2})
    assert device.cpu_limit(tmp_path) == 3


def test_the_student_is_float32_on_a_cpu_unless_asked_otherwise() -> None:
    assert device.training_dtype("auto", CPU) == torch.float32
    assert device.training_dtype("bfloat16", CPU) == torch.bfloat16


def test_a_frozen_model_is_float32_where_the_cpu_has_no_bfloat16(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(device, "cpu_flags", lambda: {"avx2"})
    assert device.frozen_dtype("auto", CPU, 576, 1536) == torch.float32


@pytest.mark.parametrize(("half_seconds", "dtype"), [(0.5, torch.bfloat16), (0.9, torch.float32), (2.0, torch.float32)])
def test_the_probe_takes_bfloat16_only_where_it_is_clearly_faster(
    monkeypatch: pytest.MonkeyPatch, half_seconds: float, dtype: torch.dtype
) -> None:
    monkeypatch.setattr(device, "cpu_flags", lambda: {"avx512_bf16"})
    monkeypatch.setattr(device, "_product_seconds", lambda _h, _i, d: half_seconds if d == torch.bfloat16 else 1.0)
    assert device.frozen_dtype("auto", CPU, 576, 1536) == dtype


def test_a_small_model_is_not_probed_and_stays_exact(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(device, "cpu_flags", lambda: {"avx512_bf16"})
    monkeypatch.setattr(device, "_product_seconds", lambda *_: pytest.fail("was timed"))
    assert device.frozen_dtype("auto", CPU, 256, 704) == torch.float32


def test_what_is_asked_for_is_not_probed() -> None:
    assert device.frozen_dtype("bfloat16", CPU, 64, 128) == torch.bfloat16
    assert device.frozen_dtype("float32", CPU, 64, 128) == torch.float32


def test_cpu_flags_are_those_of_the_first_cpu(tmp_path: Path) -> None:
    (tmp_path / "cpuinfo").write_text("processor : 0\nflags\t\t: fpu avx512_bf16\nprocessor : 1\nflags : fpu\n")
    assert device.cpu_flags(tmp_path / "cpuinfo") == {"fpu", "avx512_bf16"}
    assert device.cpu_flags(tmp_path / "absent") == set()


def test_autocast_leaves_float32_alone() -> None:
    left = torch.ones(4, 4)
    with device.autocast(torch.float32, CPU):
        assert (left @ left).dtype == torch.float32
    with device.autocast(torch.bfloat16, CPU):
        assert (left @ left).dtype == torch.bfloat16


@pytest.mark.parametrize(("parameters", "threads"), [(None, 3), (600_000, 1), (135_000_000, 3)])
def test_a_small_model_gets_one_thread(monkeypatch: pytest.MonkeyPatch, parameters: int | None, threads: int) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr(device, "cpu_limit", lambda: 3)
    before = torch.get_num_threads()
    try:
        assert device.set_threads(parameters) == torch.get_num_threads() == threads
    finally:
        torch.set_num_threads(before)

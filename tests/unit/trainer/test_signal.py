"""The signal read back from shards is the teacher's own."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import pytest
import torch
from safetensors.torch import save_file

from distillery_trainer.data.traces import Place, SignalRecord
from distillery_trainer.errors import StageError
from distillery_trainer.signal import read as teacher_signal
from distillery_trainer.signal.read import Signal

CPU = torch.device("cpu")
VOCAB, WIDTH = 11, 5


def record(kind: Literal["logits", "hiddenState"], scale: float = 1.0, softcap: float | None = None) -> SignalRecord:
    """What the traces manifest says of the signal."""
    return SignalRecord(kind=kind, logit_scale=scale, logit_softcap=softcap)


def places() -> list[Place]:
    """Three rows in two shards."""
    return [
        Place(shard="signal-train-00001.safetensors", offset=0, length=2),
        Place(shard="signal-train-00000.safetensors", offset=3, length=1),
        Place(shard="signal-train-00000.safetensors", offset=0, length=3),
    ]


def shards(folder: Path, width: int, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    """Write the shards; the rows in the order of `places`."""
    first, second = torch.randn(4, width).to(dtype), torch.randn(2, width).to(dtype)
    save_file({"signal": first}, folder / "signal-train-00000.safetensors")
    save_file({"signal": second}, folder / "signal-train-00001.safetensors")
    return torch.cat([second, first[3:], first[:3]])


@pytest.mark.parametrize("vocab", [VOCAB, VOCAB - 4, VOCAB + 4])
def test_logits_come_in_the_order_of_the_rows(tmp_path: Path, vocab: int) -> None:
    expected = shards(tmp_path, VOCAB)
    logits = Signal(tmp_path, record("logits"), CPU, vocab).logits(places())
    assert torch.equal(logits(0, 6), expected[:, :vocab])
    assert torch.equal(logits(2, 4), expected[2:4, :vocab])


@pytest.mark.parametrize("bias", [False, True])
def test_hidden_states_give_the_live_logits(tmp_path: Path, bias: bool) -> None:
    states, weight, offset = shards(tmp_path, WIDTH), torch.randn(VOCAB, WIDTH), torch.randn(VOCAB)
    save_file({"weight": weight, **({"bias": offset} if bias else {})}, tmp_path / "head.safetensors")
    live = 4.0 * torch.tanh(0.5 * (states @ weight.T + (offset if bias else 0.0)) / 4.0)
    logits = Signal(tmp_path, record("hiddenState", 0.5, 4.0), CPU, VOCAB).logits(places())
    torch.testing.assert_close(logits(0, 6), live, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("native", [False, True])
def test_a_bfloat16_teacher_is_multiplied_in_what_the_device_does_well(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, native: bool
) -> None:
    states, weight = shards(tmp_path, WIDTH, torch.bfloat16), torch.randn(VOCAB, WIDTH).bfloat16()
    save_file({"weight": weight}, tmp_path / "head.safetensors")
    monkeypatch.setattr(teacher_signal, "native_bfloat16", lambda _: native)
    logits = Signal(tmp_path, record("hiddenState"), CPU, VOCAB).logits(places())(0, 6)
    assert logits.dtype == (torch.bfloat16 if native else torch.float32)
    torch.testing.assert_close(logits.float(), states.float() @ weight.float().T, rtol=2e-2, atol=2e-2)


def test_rows_without_signal_are_refused_with_the_remedy(tmp_path: Path) -> None:
    made = Signal(tmp_path, record("logits"), CPU, VOCAB)
    with pytest.raises(StageError, match="remove the 'response' objective, or make traces with it"):
        made.logits([None])

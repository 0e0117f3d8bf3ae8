"""What the trainer does on a GPU: the loss kernel, training steps in bfloat16 and float32, a resumed run, and the arithmetic example.

`python -m tests.bench.on_gpu [FOLDER]`, with the packages of the trainer and a CUDA build of torch. Reported, never asserted: figures are
of the card that is named first. The teacher has the shape of SmolLM2-135M (30 layers of 576, 49,152 ids, tied) and random weights, which
costs a step what real ones cost.
"""

from __future__ import annotations

import json
import random
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
import yaml  # type: ignore[import-untyped]
from tests.bench.losses import WAYS
from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM

REPOSITORY = Path(__file__).parents[2]
ARITHMETIC = REPOSITORY / "examples" / "arithmetic"
SHAPE = {"hidden_size": 576, "intermediate_size": 1536, "num_hidden_layers": 30, "num_attention_heads": 9, "num_key_value_heads": 3}
VOCAB = 49_152
ROWS, COMPLETION, STEPS = 512, 384, 60
HALF: dict[str, Any] = {"fromTeacher": {"numHiddenLayers": 15}}


def kernel(tokens: int, width: int, vocab: int) -> None:
    """Milliseconds of forward and backward of the loss, and GiB above its inputs, by each way; gradients against float64."""
    print(f"loss kernel, {tokens} x {width} x {vocab} (tokens x width x vocabulary), float32 weights and arithmetic")
    torch.manual_seed(0)
    weight, matrix = (torch.randn(vocab, width, device="cuda").mul_(0.05) for _ in range(2))
    hidden, states = (torch.randn(tokens, width, device="cuda") for _ in range(2))
    targets = torch.randint(vocab, (tokens,), device="cuda")
    small = 512
    exact = hidden[:small].double().requires_grad_()
    WAYS["dense"](exact, weight.double(), targets[:small], states[:small].double(), matrix.double()).backward()  # type: ignore[no-untyped-call]
    for name, way in WAYS.items():
        checked = hidden[:small].clone().requires_grad_()
        way(checked, weight, targets[:small], states[:small], matrix).backward()  # type: ignore[no-untyped-call]
        error = float((gradient(checked).double() - gradient(exact)).norm() / gradient(exact).norm())
        seconds, peak = timed(lambda way=way: once(way, hidden, weight, targets, states, matrix))
        print(f"  {name:<34}{seconds * 1000:>9.2f} ms{peak:>8.2f} GiB   gradient off by {error:.1e} of its norm")


def gradient(leaf: torch.Tensor) -> torch.Tensor:
    """What the backward pass left at a leaf."""
    if leaf.grad is None:
        raise ValueError("the loss does not depend on its hidden states")
    return leaf.grad


def once(way: Callable[..., torch.Tensor], hidden: torch.Tensor, weight: torch.Tensor, *rest: torch.Tensor) -> None:
    """One forward and backward pass with fresh leaves."""
    leaves = hidden.detach().requires_grad_(), weight.detach().requires_grad_()
    way(*leaves, *rest).backward()  # type: ignore[no-untyped-call]


def timed(run: Callable[[], None], repeats: int = 20) -> tuple[float, float]:
    """Median seconds, and the peak in GiB above what was allocated before."""
    for _ in range(3):
        run()
    torch.cuda.synchronize()
    torch.cuda.reset_peak_memory_stats()
    before, times = torch.cuda.memory_allocated(), []
    for _ in range(repeats):
        start = time.perf_counter()
        run()
        torch.cuda.synchronize()
        times.append(time.perf_counter() - start)
    return statistics.median(times), (torch.cuda.max_memory_allocated() - before) / 2**30


def make_inputs(root: Path) -> None:
    """Bucket `bench`: a teacher of SmolLM2's shape with the arithmetic tokenizer, and rows of long completions."""
    folder = root / "bench"
    tokenizer = AutoTokenizer.from_pretrained(ARITHMETIC / "teacher")
    torch.manual_seed(0)
    config = LlamaConfig(vocab_size=VOCAB, tie_word_embeddings=True, max_position_embeddings=2048, **SHAPE)
    config.bos_token_id, config.eos_token_id = tokenizer.bos_token_id, tokenizer.eos_token_id
    LlamaForCausalLM(config).save_pretrained(folder / "teacher")
    tokenizer.save_pretrained(folder / "teacher")
    draw = random.Random(0)
    for name, count in (("train", ROWS), ("evaluation", 16)):
        rows = [{"prompt": f"solve {index}", "completion": "".join(draw.choices("0123456789", k=COMPLETION))} for index in range(count)]
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


def shaped_job(name: str, precision: str, student: dict[str, Any], output: str = "shared") -> dict[str, Any]:
    """A job on the inputs of `make_inputs`. Jobs with the same output share its traces."""
    return {
        "apiVersion": "distillery.dev/v1alpha1",
        "kind": "DistillationJob",
        "metadata": {"name": name},
        "spec": {
            "teacher": {"model": {"uri": "s3://bench/teacher"}},
            "student": student,
            "data": {
                "train": {"uri": "s3://bench/train.jsonl", "format": "promptCompletion"},
                "evaluation": {"uri": "s3://bench/evaluation.jsonl", "format": "promptCompletion"},
            },
            "method": {"rounds": [{"objectives": [{"response": {"temperature": "1", "weight": "0.8"}}, {"hardLabel": {"weight": "0.2"}}]}]},
            "training": {
                "maxSteps": STEPS, "globalBatchSize": 32, "maxSequenceLength": 512, "learningRate": "0.0003", "precision": precision,
                "checkpoint": {"everySteps": 10},
            },
            "evaluation": {"generation": {"maxNewTokens": 4}, "maxRows": 16},
            "exports": [],
            "output": {"uri": f"s3://models/{output}"},
        },
    }  # fmt: skip


def command(manifest: Path, root: Path) -> list[str]:
    """The local run of a manifest."""
    return [sys.executable, "-m", "distillery.local", "run", "--root", str(root), "--store", str(root / "store"), str(manifest)]


def run(job: dict[str, Any], root: Path) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Run a job to its end; the train stage's manifest, and its log by step."""
    manifest = root / f"{job['metadata']['name']}.yaml"
    manifest.write_text(yaml.safe_dump(job))
    ended = subprocess.run(command(manifest, root), capture_output=True, text=True)
    if ended.returncode:
        raise SystemExit(f"{manifest.name}: exit code {ended.returncode}\n{ended.stdout[-3000:]}\n{ended.stderr[-3000:]}")
    return trained(job, root)


def trained(job: dict[str, Any], root: Path) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """What the train stage left in the store."""
    bucket = root / "store" / job["spec"]["output"]["uri"].removeprefix("s3://")
    newest = max(bucket.glob("stages/train-*/manifest.json"), key=lambda path: path.stat().st_mtime)
    folder = newest.parent
    log = next(path for path in folder.rglob("log.jsonl"))
    return json.loads((folder / "manifest.json").read_text()), [json.loads(line) for line in log.read_text().splitlines()]


def steps(root: Path) -> list[dict[str, Any]]:
    """Training steps of students of half the teacher's layers: tokens/s after the first ten, the peak of memory. The log of the first."""
    print(f"training steps, student of 15 layers (fromTeacher), exact signal, 32 rows of about {COMPLETION} completion tokens")
    first: list[dict[str, Any]] = []
    for name, precision, student in (
        ("full-bf16", "bfloat16", HALF),
        ("full-fp32", "float32", HALF),
        ("lora-bf16", "bfloat16", HALF | {"lora": {"rank": 16}}),
    ):
        manifest, log = run(shaped_job(name, precision, student), root)
        speed = statistics.median(line["tokensPerSecond"] for line in log[10:])
        metrics, lineage = manifest["metrics"], manifest["lineage"]
        print(
            f"  {name:<12}{speed:>10.0f} tokens/s{metrics['peakMemoryBytes'] / 2**30:>8.2f} GiB   loss {log[0]['loss']:.4f} to"
            f" {log[-1]['loss']:.4f}   {lineage['dtype']} on {lineage['device']}"
        )
        first = first or log
    return first


def resumed(root: Path, alone: list[dict[str, Any]]) -> None:
    """A run that is stopped after a checkpoint and started again, against the same run left alone."""
    job = shaped_job("stopped", "bfloat16", HALF, "stopped")
    manifest = root / "stopped.yaml"
    manifest.write_text(yaml.safe_dump(job))
    process = subprocess.Popen(command(manifest, root), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 240
    while not list((root / "store").glob("models/stopped/stages/train-*/work/*/*")):
        with suppress(subprocess.TimeoutExpired):
            raise SystemExit(f"the run to be stopped ended by itself, with exit code {process.wait(0.2)}")
        if time.monotonic() > deadline:
            raise SystemExit("the run to be stopped wrote no checkpoint")
    process.send_signal(signal.SIGINT)
    process.wait()
    again = run(job, root)[1]
    worst = max(abs(a["loss"] - b["loss"]) / a["loss"] for a, b in zip(alone, again, strict=True))
    print(f"resumed after a checkpoint: {len(again)} steps, losses within {worst:.1e} (relative) of the run left alone (goal 1e-3)")


def example(root: Path) -> None:
    """The arithmetic example without its exports."""
    job = yaml.safe_load((ARITHMETIC / "job.yaml").read_text())
    job["spec"]["exports"] = []
    began = time.monotonic()
    manifest, log = run(job, root)
    evaluation = next((root / "store").glob("models/arithmetic/stages/evaluate-*/manifest.json"))
    results = {found["metric"]: found for found in json.loads(evaluation.read_text())["result"]["evaluation"]["results"]}
    accuracy = results["labelAccuracy"]
    print(
        f"examples/arithmetic: {time.monotonic() - began:.0f} s in all, {len(log)} steps in {manifest['lineage']['dtype']}, label accuracy:"
        f" teacher {accuracy['teacher']}, student {accuracy['student']}, untrained {accuracy['baseline']}"
    )


def main() -> None:
    """All of it, the short parts first."""
    print(f"{torch.cuda.get_device_name()}, torch {torch.__version__}")
    kernel(8192, 576, VOCAB)
    kernel(8192, 2048, 151_936)
    with tempfile.TemporaryDirectory(dir=sys.argv[1] if len(sys.argv) > 1 else None) as folder:
        root = Path(folder)
        (root / "examples").symlink_to(REPOSITORY / "examples")
        make_inputs(root)
        resumed(root, steps(root))
        example(root)


if __name__ == "__main__":
    main()

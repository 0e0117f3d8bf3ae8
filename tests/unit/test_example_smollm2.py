"""The committed rows of examples/smollm2 are what its generator writes, and its job can tell every answer."""

import importlib.util
import json
import sys
from pathlib import Path
from types import ModuleType

import pytest

from distillery.local.load import load_job
from distillery_trainer.measure.metrics import label_accuracy

EXAMPLE = Path(__file__).parents[2] / "examples/smollm2"


@pytest.fixture(scope="module")
def generator() -> ModuleType:
    spec = importlib.util.spec_from_file_location("smollm2_generate", EXAMPLE / "generate.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def committed(name: str) -> list[dict[str, str]]:
    return [json.loads(line) for line in (EXAMPLE / f"{name}.jsonl").read_text().splitlines()]


def test_the_generator_writes_the_committed_rows_again(generator: ModuleType) -> None:
    held = generator.rows(generator.EVALUATION_ROWS, generator.EVALUATION_SEED, "evaluation")
    prompts = {row["prompt"] for row in held}
    assert held == committed("evaluation")
    assert generator.rows(generator.TRAIN_ROWS, generator.TRAIN_SEED, "train", prompts) == committed("train")


def test_no_held_out_prompt_is_trained_on() -> None:
    train, held = committed("train"), committed("evaluation")
    assert (len(train), len(held)) == (300, 200)
    assert not {row["prompt"] for row in train} & {row["prompt"] for row in held}


def test_further_rows_are_neither_trained_on_nor_held_out(
    generator: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["generate.py", "--more", "600"])
    generator.main()
    more = {json.loads(line)["prompt"] for line in capsys.readouterr().out.splitlines()}
    assert len(more) == 600
    assert not more & {row["prompt"] for row in (*committed("train"), *committed("evaluation"))}


def test_both_labels_are_equally_frequent() -> None:
    labels = [row["answer"] for row in committed("evaluation")]
    assert labels.count("positive") == labels.count("negative") == 50


def test_every_answer_of_the_generator_is_found_in_a_text(generator: ModuleType) -> None:
    evaluation = load_job(EXAMPLE / "job.yaml", EXAMPLE.parents[1], Path("runs")).spec.data.evaluation
    assert evaluation is not None
    assert evaluation.answer is not None
    answers = ["positive", "negative", *generator.CITIES]
    texts = [f'The "answer" is {answer}.\nNot New York, negative or Oslo.' for answer in answers]
    assert label_accuracy(texts, answers, evaluation.answer) == 1.0

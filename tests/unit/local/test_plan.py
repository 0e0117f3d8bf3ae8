"""What `distill plan` prints of a job whose teacher costs money, against figures that were done by hand."""

from __future__ import annotations

import io
import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import yaml
from rich.console import Console

from distillery.api.budget import BudgetTeacher, Limits
from distillery.local.estimate import GUESSES, Line, bound, fits, guessed
from distillery.local.load import BadManifest, load_budget, load_job
from distillery.local.plan import print_estimate
from distillery.local.prompts import Ask, Assumed, Prompts, asked
from distillery.prices import price_of
from distillery.prices.bound import template_tokens

NOW = datetime(2026, 11, 25, 12, tzinfo=UTC)


def job_manifest(**spec: Any) -> dict[str, Any]:
    """A job with an endpoint teacher whose rows are in a bucket."""
    return {
        "apiVersion": "distillery.dev/v1alpha1",
        "kind": "DistillationJob",
        "metadata": {"name": "small"},
        "spec": {
            "teacher": {"endpoint": {"teacher": "t", "sampling": {"maxCompletionTokens": 20, "samples": 2, "temperature": "1"}}},
            "budgetRef": {"name": "team"},
            "governance": {"declaredUse": {"purpose": "internal", "competes": False}},
            "student": {"model": {"uri": "hf://org/student"}},
            "data": {"train": {"uri": "s3://rows/train.jsonl"}, "evaluation": {"uri": "s3://rows/heldout.jsonl"}},
            "evaluation": {"generation": {"maxNewTokens": 10}},
            "output": {"uri": "s3://models/small"},
        }
        | spec,
    }


def budget_manifest(limits: dict[str, Any] | None = None, **teacher: Any) -> dict[str, Any]:
    """A budget with one teacher at a dollar per million input tokens and four per million output tokens."""
    given = {
        "name": "t",
        "baseURL": "http://vllm.team.svc:8000/v1",
        "model": "m",
        "templateTokens": 160,
        "prices": {"inputPerMillion": "1", "outputPerMillion": "4"},
        "terms": {"service": "self-hosted", "weights": "apache-2.0"},
    }
    spec = {"limits": limits or {"monthly": "1.00"}, "teachers": [given | teacher]}
    return {"apiVersion": "distillery.dev/v1alpha1", "kind": "TeacherBudget", "metadata": {"name": "team"}, "spec": spec}


def lines(*rows: dict[str, Any]) -> str:
    """JSONL."""
    return "".join(json.dumps(row) + "\n" for row in rows)


class Bench:
    """A folder with rows, a job and a budget; `plan` returns what is printed and whether the job would be let through."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / "rows").mkdir()
        self.write("rows/train.jsonl", lines({"prompt": "x" * 96}, {"prompt": "y" * 196}))
        self.write("rows/heldout.jsonl", lines({"prompt": "z" * 36}))

    def write(self, name: str, text: str) -> Path:
        """A file."""
        (self.folder / name).write_text(text)
        return self.folder / name

    def plan(self, job: dict[str, Any], budget: dict[str, Any], assumed: Assumed | None = None, *terms: Path) -> tuple[str, bool]:
        """Run it."""
        out = io.StringIO()
        found = load_job(self.write("job.yaml", yaml.safe_dump(job)), self.folder, self.folder / "store")
        file = self.write("budget.yaml", yaml.safe_dump(budget))
        allowed = print_estimate(found, file, list(terms), assumed, NOW, Console(file=out, width=160))
        return out.getvalue(), allowed


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


def row(text: str, name: str) -> list[str]:
    """The cells of one row of the table."""
    found = next(line for line in text.splitlines() if f" {name} " in line and "│" in line)
    return [cell.strip() for cell in found.strip("│").split("│")]


def test_rows_tokens_and_dollars_are_printed_before_anything_is_bought(bench: Bench) -> None:
    text, allowed = bench.plan(job_manifest(), budget_manifest())
    assert allowed
    assert "training rows    2 prompts, 150 bytes each on average, 2 answers each, answers of at most 20 tokens" in text
    assert "held-out rows    1 prompts, 40 bytes each on average, answers of at most 10 tokens" in text
    # mean: 8 + ceil(150 / 4) = 46 tokens in, 2 * 10 out, twice; and 8 + 10 in, 5 out
    assert row(text, "mean") == ["mean", "3", "110", "45", f"{(110 + 4 * 45) / 1e6:.6f}"]
    # high: 8 + 75 in, 2 * 20 out, twice; and 8 + 20 in, 10 out
    assert row(text, "high") == ["high", "3", "194", "90", f"{(194 + 4 * 90) / 1e6:.6f}"]
    # held: (bytes + 160 + 16) for each of two answers of 20; and for one of 10
    inputs = 2 * (100 + 176) + 2 * (200 + 176) + (40 + 176)
    assert row(text, "held for all at once") == ["held for all at once", "3", f"{inputs:,}", "90", f"{(inputs + 4 * 90) / 1e6:.6f}"]
    # a request in doubt is sent once more, and both stay booked
    assert row(text, "at worst") == ["at worst", "6", f"{2 * inputs:,}", "180", f"{2 * (inputs + 4 * 90) / 1e6:.6f}"]
    assert row(text, "held for one") == ["held for one", "1", "752", "40", f"{(752 + 160) / 1e6:.6f}"]
    assert "limit monthly        1.000000 USD  fits" in text
    assert "Terms: permit. Apache License 2.0" in text


@pytest.mark.parametrize(
    ("limits", "says", "allowed"),
    [
        ({"monthly": "0.000911"}, "is below what one request may cost", False),
        ({"monthly": "0.000912"}, "fits", True),
        ({"tokens": {"daily": 791}}, "is below what one request may cost", False),
        ({"tokens": {"daily": 792}}, "fits", True),
    ],
)
def test_a_limit_below_one_request_stops_the_job(bench: Bench, limits: dict[str, Any], says: str, allowed: bool) -> None:
    text, found = bench.plan(job_manifest(), budget_manifest(limits))
    assert says in text
    assert found is allowed


@pytest.mark.parametrize(("retries", "times"), [(0, 1), (3, 4)])
def test_the_worst_case_grows_with_what_is_tried_again_in_doubt(bench: Bench, retries: int, times: int) -> None:
    job = job_manifest()
    job["spec"]["teacher"]["endpoint"]["retriesInDoubt"] = retries
    text, _ = bench.plan(job, budget_manifest())
    assert row(text, "at worst")[1] == str(3 * times)
    assert f"the outcome of every request unknown {times} times (spec.teacher.endpoint.retriesInDoubt: {retries})" in text


def test_limits_are_told_apart_by_the_guesses() -> None:
    low, high, one = Line(1, 10, 10, 1000), Line(1, 20, 20, 3000), Line(1, 1, 1, 100)
    given = Limits.model_validate({"daily": "0.0000005", "monthly": "0.000002", "total": "0.000003", "tokens": {"total": 39}})
    assert [(fit.window, fit.unit, fit.verdict, fit.stops) for fit in fits(given, low, high, one)] == [
        ("daily", "USD", "is too low even for the low guess", False),
        ("monthly", "USD", "may not be enough", False),
        ("total", "USD", "fits", False),
        ("total", "tokens", "may not be enough", False),
    ]


def test_the_guess_never_exceeds_what_is_held() -> None:
    teacher = BudgetTeacher.model_validate(budget_manifest()["spec"]["teachers"][0])
    prompts = Prompts()
    for size in (0, 1, 7, 4000):
        prompts.add(["x" * size], 1)
    ask, prices = Ask("rows", prompts, 3, 50), price_of(teacher, NOW)
    held = bound(ask, teacher, prices)
    assert all(guessed(ask, teacher, prices, guess).cost <= held.cost for guess in GUESSES)
    assert guessed(Ask("none", Prompts(), 1, 5), teacher, prices, GUESSES[0]) == Line(0, 0, 0, 0)


def test_the_bound_of_a_prompt_is_the_gateways() -> None:
    from distillery.gateway.question import read_question

    teacher = BudgetTeacher.model_validate(budget_manifest()["spec"]["teachers"][0])
    messages = [{"role": "system", "content": "Ünïcödé ﬃ"}, {"role": "user", "content": "solve 1+1"}]
    prompts = Prompts()
    prompts.add([text for message in messages for text in (message["role"], message["content"])], len(messages))
    question = read_question("chat/completions", json.dumps({"model": "t", "messages": messages}).encode(), teacher, None)
    assert [found + template_tokens(teacher, 0) for found in prompts.bounds] == [question.input_tokens]


def test_rows_that_have_their_completion_are_not_asked(bench: Bench) -> None:
    bench.write("rows/train.jsonl", lines({"messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]}))
    data = {"train": {"uri": "s3://rows/train.jsonl", "format": "messages"}, "evaluation": {"uri": "s3://rows/heldout.jsonl"}}
    text, _ = bench.plan(job_manifest(data=data), budget_manifest())
    assert "training rows" not in text
    assert row(text, "mean")[1] == "1"


def test_without_held_out_rows_a_tenth_of_the_training_rows_is_held_out(bench: Bench) -> None:
    bench.write("rows/train.jsonl", lines(*({"prompt": "x" * 46} for _ in range(30))))
    text, _ = bench.plan(job_manifest(data={"train": {"uri": "s3://rows/train.jsonl"}}), budget_manifest())
    assert "training rows    27 prompts, 50 bytes" in text
    assert "held-out rows    3 prompts, 50 bytes" in text


def test_a_system_prompt_and_columns_of_other_names_are_counted(bench: Bench) -> None:
    bench.write("rows/train.jsonl", lines({"question": "x" * 10}))
    train = {"uri": "s3://rows/train.jsonl", "systemPrompt": "s" * 30, "fields": {"prompt": "question"}}
    text, _ = bench.plan(job_manifest(data={"train": train, "evaluation": {"uri": "s3://rows/heldout.jsonl"}}), budget_manifest())
    assert "1 prompts, 50 bytes each" in text  # with the words system and user


def test_prompts_are_counted_as_they_are_asked(bench: Bench) -> None:
    """Parts of a content are one text; without a chat template a text has no role."""
    parts = [{"type": "text", "text": "x" * 10}, {"type": "text", "text": "y" * 10}]
    bench.write("rows/train.jsonl", lines({"prompt": [{"role": "user", "content": parts}]}))
    data: dict[str, Any] = {"train": {"uri": "s3://rows/train.jsonl"}, "evaluation": {"uri": "s3://rows/heldout.jsonl"}}
    assert "training rows    1 prompts, 24 bytes each" in bench.plan(job_manifest(data=data), budget_manifest())[0]
    bench.write("rows/train.jsonl", lines({"prompt": "x" * 10}))
    assert "training rows    1 prompts, 14 bytes each" in bench.plan(job_manifest(data=data), budget_manifest())[0]
    data["chatTemplate"] = "none"
    assert "training rows    1 prompts, 10 bytes each" in bench.plan(job_manifest(data=data), budget_manifest())[0]


def test_rows_elsewhere_are_taken_from_the_command_line(bench: Bench) -> None:
    data = {"train": {"uri": "hf://org/rows"}, "evaluation": {"uri": "s3://rows/heldout.jsonl"}}
    with pytest.raises(BadManifest, match=r"spec.data.train.uri: hf://org/rows cannot be read here; give --rows"):
        bench.plan(job_manifest(data=data), budget_manifest())
    text, _ = bench.plan(job_manifest(data=data), budget_manifest(), Assumed(500, 1200))
    assert "training rows    500 prompts, 1200 bytes each" in text
    assert "held-out rows    1 prompts, 40 bytes each" in text


def test_a_parquet_file_and_a_split_are_read(bench: Bench, tmp_path: Path) -> None:
    pyarrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    (tmp_path / "rows/set").mkdir()
    for split, size in (("train", 96), ("test", 6)):
        parquet.write_table(pyarrow.table({"prompt": ["x" * size] * 4}), tmp_path / f"rows/set/{split}.parquet")
    found = load_job(
        bench.write("job.yaml", yaml.safe_dump(job_manifest(data={"train": {"uri": "s3://rows/set", "split": "train"}}))),
        tmp_path,
        tmp_path,
    )
    assert [(ask.prompts.count, ask.prompts.size) for ask in asked(found.spec, None)] == [(3, 300), (1, 100)]


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("{", "train.jsonl line 1: is not JSON"),
        ('{"q": 1}', "spec.data.train: .*line 1: field 'prompt' is missing \\(the row has 'q'\\); add it, or name the column under fields"),
        ("[1]", "line 1: is a JSON list, not an object"),
        ('{"prompt": [{"role": "bot", "content": "x"}]}', "line 1: prompt\\[0\\].role is 'bot'"),
    ],
)
def test_a_row_that_cannot_be_read_is_named_as_the_stages_name_it(bench: Bench, line: str, says: str) -> None:
    bench.write("rows/train.jsonl", line)
    with pytest.raises(BadManifest, match=says):
        bench.plan(job_manifest(), budget_manifest())


def test_a_teacher_whose_terms_or_price_stop_the_job_is_told(bench: Bench) -> None:
    competing = job_manifest(governance={"declaredUse": {"purpose": "commercial", "competes": True}})
    text, allowed = bench.plan(competing, budget_manifest(baseURL="https://api.openai.com/v1", terms={}))
    assert not allowed
    assert "Terms: deny (TermsForbidUse). OpenAI Services Agreement (3.3(e), https://openai.com/" in text

    text, allowed = bench.plan(job_manifest(), budget_manifest(prices={"source": "genai-prices"}))
    assert not allowed
    assert 'has no price of "m"' in text
    assert "Terms: permit" in text

    text, _ = bench.plan(job_manifest(), budget_manifest(terms={"service": "self-hosted", "weights": "llama-3.3"}))
    assert "  flowDown: Llama Acceptable Use Policy" in text


def test_an_own_catalogue_overrides(bench: Bench) -> None:
    own = bench.write(
        "own.yaml",
        "version: own\nentries: [{id: apache-2.0, kind: weights, title: A, provider: x, rules: [{effect: deny, message: not here.}]}]",
    )
    shipped = Path("helm/distillery/files/terms.yaml")
    assert bench.plan(job_manifest(), budget_manifest(), None, shipped, own)[1] is False
    with pytest.raises(BadManifest, match=r"--terms: no\.yaml: No such file"):
        bench.plan(job_manifest(), budget_manifest(), None, Path("no.yaml"))


def test_a_budget_has_to_be_the_jobs_and_to_have_its_teacher(bench: Bench) -> None:
    with pytest.raises(BadManifest, match=r'"t" is not in TeacherBudget "team"; it has u'):
        bench.plan(job_manifest(), budget_manifest(name="u"))
    other = budget_manifest() | {"metadata": {"name": "other"}}
    with pytest.raises(BadManifest, match=r'holds TeacherBudget "other", but the job\'s spec.budgetRef names "team"'):
        bench.plan(job_manifest(), other)
    with pytest.raises(BadManifest, match=r"budget.yaml: spec.limits"):
        load_budget(bench.write("budget.yaml", yaml.safe_dump(budget_manifest({"monthly": "lots"}))), "team")

"""The traces stage with a teacher behind an API, run as its pods run it, against a gateway on a loopback port."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.unit.trainer import tiny
from tests.unit.trainer.gateway import COST, INFO, FakeGateway, chat, prompt_of, serving
from tests.unit.trainer.pipeline import HASHES, SCRATCH, finished

from distillery.api.hashes import stage_hashes
from distillery.api.result import OUT_OF_BUDGET, USER_MISTAKE

WORDS = ("fox", "dog", "city", "six", "lazy", "over", "Paris", "seven", "brown", "France", "quick", "jumps")
PROMPTS = [{"id": word, "prompt": f"say {word}", "answer": word} for word in WORDS]


def told(body: dict[str, Any], attempt: int) -> Any:
    """The teacher repeats the word, as often as it is asked to."""
    text = f"{prompt_of(body).split()[1]} it is"
    return chat(*([text] * body.get("n", 1)))


@pytest.fixture
def gateway() -> Iterator[FakeGateway]:
    """A gateway whose teacher does as it is told."""
    with serving(FakeGateway(told)) as running:
        yield running


def spec(root: Path, rows: list[dict[str, Any]] | None = None, endpoint: dict[str, Any] | None = None, **more: Any) -> dict[str, Any]:
    """A job whose teacher is an endpoint."""
    held = [{"id": f"h-{word}", "prompt": f"tell {word}", "completion": f"{word} it is", "answer": word} for word in WORDS[:4]]
    return {
        "teacher": {"endpoint": {"teacher": "gpt-x", **(endpoint or {})}},
        "budgetRef": {"name": "team"},
        "governance": {"declaredUse": {"purpose": "internal", "competes": False}},
        "student": {"model": {"uri": f"file://{root}/student"}},
        "data": {
            "train": {"uri": tiny.lines(root / "train.jsonl", rows or PROMPTS)},
            "evaluation": {
                "uri": tiny.lines(root / "heldout.jsonl", held),
                "format": "promptCompletion",
                "answer": {"field": "answer", "extract": r"^(\w+)"},
            },
        },
        "training": {"globalBatchSize": 4, "maxSequenceLength": 64, "maxSteps": 12, "learningRate": "0.01"},
        "evaluation": {"generation": {"maxNewTokens": 6, "batchSize": 4}},
        "output": {"uri": f"file://{root}/out"},
        **more,
    }


def execute(root: Path, gateway: FakeGateway, kind: str, job: dict[str, Any], **environment: str) -> tuple[int, tiny.Place]:
    """One stage in a pod of its own; exit code and place."""
    place = tiny.Place(root, job)
    (root / "token").write_text("a-token\n")
    place.environment |= {
        "DISTILLERY_GATEWAY_URL": gateway.url,
        "DISTILLERY_TOKEN_FILE": str(root / "token"),
        "DISTILLERY_WORK": str(root / f"work-{environment.get('JOB_COMPLETION_INDEX', '0')}"),
        **environment,
    }
    return place.execute(kind, HASHES.get(kind, "e" * 64), {k: v for k, v in HASHES.items() if k != kind}), place


def lines(folder: Path, name: str) -> list[dict[str, Any]]:
    """A JSONL file."""
    return [json.loads(line) for line in (folder / name).read_text().splitlines()]


def test_the_teacher_completes_training_rows_and_answers_held_out_ones(tmp_path: Path, gateway: FakeGateway) -> None:
    code, place = execute(tmp_path, gateway, "traces", spec(tmp_path))
    assert code == 0, place.result().message
    manifest, files = finished(tmp_path, "traces")
    train, held = lines(files, "train.jsonl"), lines(files, "heldout.jsonl")
    assert [(row["id"], row["completion"], row["completion_ids"], row["signal"]) for row in train] == [
        (word, f"{word} it is", None, None) for word in WORDS
    ]
    assert [row["teacher_answer"] for row in held] == [f"{word} it is" for word in WORDS[:4]]
    assert lines(files, "dropped.jsonl") == []
    assert set(gateway.tokens) == {"Bearer a-token"}
    asked = {prompt_of(body): body for body in gateway.asked}
    messages = [{"role": "user", "content": "say fox"}]
    assert asked["say fox"] == {"model": "gpt-x", "messages": messages, "max_completion_tokens": 512, "temperature": 0.0}
    assert asked["tell fox"]["max_completion_tokens"] == 6
    usage = manifest.lineage["usage"]
    assert (usage["requests"], usage["cacheHits"], usage["cost"]) == (16, 0, "0.024")
    assert COST * 16 == 24_000_000
    teacher = manifest.lineage["teacher"]
    assert (teacher["kind"], teacher["name"], teacher["baseURL"]) == ("endpoint", "gpt-x", "https://api.example.com/v1")
    assert (teacher["returnedModels"], teacher["terms"]) == (["gpt-x-2026-01-01-b"], ["example-2026", "llama-3.3"])
    assert (teacher["verdict"], teacher["approval"], teacher["prices"]) == ("permit", "LEGAL-7", "d" * 64)
    assert "16 answers bought for $0.024" in manifest.result.message


def test_every_later_stage_works_on_text(tmp_path: Path, gateway: FakeGateway) -> None:
    """Preflight first; then the student learns from the text and is compared with the teacher's own answers."""
    tiny.save(tmp_path / "student", tiny.model(), tiny.tokenizer())
    job = spec(tmp_path)
    code, place = execute(tmp_path, gateway, "preflight", job)
    assert code == 0, place.result().message
    metrics = {metric.name: metric.value for metric in place.result().metrics}
    assert metrics["requests"] == "16"
    assert int(metrics["longestPromptBytes"]) == len("say France")
    for kind in ("traces", "curate", "train", "evaluate"):
        code, place = execute(tmp_path, gateway, kind, job)
        assert code == 0, (kind, place.result().message)
    result = place.result()
    assert execute(tmp_path, gateway, "publish", job)[0] == 0, place.result().message
    rows = {row.metric: row for row in (result.evaluation or pytest.fail("no table")).results}
    assert list(rows) == ["exactMatch", "labelAccuracy", "retention", "perplexity"]
    assert rows["labelAccuracy"].teacher == "1"
    assert rows["perplexity"].teacher is None
    assert len(gateway.bought) == len(gateway.asked) == 16
    card = (tmp_path / "out/team/job/uid-1/README.md").read_text()
    assert "# Llama-job" in card
    assert "**Built with Llama**" in card
    assert "`example-2026`, `llama-3.3`, 1.b.i (https://example.com/terms)" in card
    assert "The teacher was asked 16 times for $0.024." in card
    assert "| teacher | `gpt-x-2026-01-01` at https://api.example.com/v1 |" in card
    assert "teacher's sha256" not in card


def test_terms_are_looked_at_again_before_anything_is_published(tmp_path: Path, gateway: FakeGateway) -> None:
    """And the card holds what they say now, not what they said when the answers were bought."""
    tiny.save(tmp_path / "student", tiny.model(), tiny.tokenizer())
    job = spec(tmp_path, training={"maxSteps": 1, "globalBatchSize": 4, "maxSequenceLength": 64})
    for kind in ("traces", "curate", "train", "evaluate"):
        assert execute(tmp_path, gateway, kind, job)[0] == 0
    gateway.info = (403, "terms_forbid_use", {})
    code, place = execute(tmp_path, gateway, "publish", job)
    assert (code, place.result().reason) == (OUT_OF_BUDGET, "TermsForbidUse")
    assert not (tmp_path / "out/team").exists()
    gateway.info = {**INFO, "policy": {"verdict": "permit", "terms": ["new-terms"]}}
    assert execute(tmp_path, gateway, "publish", job)[0] == 0
    card = (tmp_path / "out/team/job/uid-1/README.md").read_text()
    assert "# job\n" in card
    assert "under the terms `new-terms`; the declared use was judged `permit`." in card


OTHER = {"template": "{% for m in messages %}{{ m['content'] + '<|im_end|>' }}{% endfor %}", "size": 300}


def test_traces_of_text_teach_students_of_any_family(tmp_path: Path, gateway: FakeGateway) -> None:
    """Without the teacher, and without asking anything again: the tokenizer is each student's own."""
    assert execute(tmp_path, gateway, "traces", spec(tmp_path))[0] == 0
    uri = f"file://{tmp_path}/out/stages/traces-{HASHES['traces']}/manifest.json"
    tiny.save(tmp_path / "other", tiny.model("gpt2", vocab=300), tiny.tokenizer(**OTHER))
    job = {
        "teacher": {"traces": {"uri": uri}},
        "student": {"model": {"uri": f"file://{tmp_path}/other"}},
        "training": {"globalBatchSize": 4, "maxSequenceLength": 64, "maxSteps": 3},
        "method": {"rounds": [{"objectives": [{"hardLabel": {}}]}]},
        "evaluation": {"generation": {"maxNewTokens": 4}},
        "output": {"uri": f"file://{tmp_path}/again"},
    }
    for kind in ("preflight", "curate", "train", "evaluate", "publish"):
        code, place = execute(tmp_path, gateway, kind, job)
        assert code == 0, (kind, place.result().message)
    assert len(gateway.asked) == 16
    assert "Built with Llama" in next((tmp_path / "again").rglob("team/job/uid-1/README.md")).read_text()


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"student": {"scratch": SCRATCH}}, "use student.model"),
        ({"method": {"rounds": [{"objectives": [{"response": {"temperature": "1"}}]}]}}, "these traces hold no signal"),
    ],
    ids=["scratch", "response"],
)  # fmt: skip
def test_what_traces_of_text_cannot_teach(tmp_path: Path, gateway: FakeGateway, change: dict[str, Any], told: str) -> None:
    assert execute(tmp_path, gateway, "traces", spec(tmp_path))[0] == 0
    tiny.save(tmp_path / "student", tiny.model(), tiny.tokenizer())
    job: dict[str, Any] = {
        "teacher": {"traces": {"uri": f"file://{tmp_path}/out/stages/traces-{HASHES['traces']}/manifest.json"}},
        "student": {"model": {"uri": f"file://{tmp_path}/student"}},
        "method": {"rounds": [{"objectives": [{"hardLabel": {}}]}]},
        "training": {"maxSequenceLength": 64},
        "output": {"uri": f"file://{tmp_path}/again"},
        **change,
    }
    code, place = execute(tmp_path, gateway, "preflight", job)
    assert code == USER_MISTAKE
    assert told in place.result().message


def test_a_tokenizer_alone_is_enough_for_a_student_from_scratch(tmp_path: Path, gateway: FakeGateway) -> None:
    """Its folder needs no model: the vocabulary is the tokenizer's."""
    tiny.tokenizer().save_pretrained(tmp_path / "words")
    job = spec(tmp_path, endpoint={"tokenizer": {"uri": f"file://{tmp_path}/words"}}, student={"scratch": SCRATCH})
    for kind in ("preflight", "traces", "curate", "train", "evaluate"):
        code, place = execute(tmp_path, gateway, kind, job)
        assert code == 0, (kind, place.result().message)
    _, files = finished(tmp_path, "traces")
    assert json.loads((finished(tmp_path, "train")[1] / "model/config.json").read_text())["vocab_size"] == len(tiny.tokenizer())
    assert all(row["completion_ids"][-1] == tiny.tokenizer().eos_token_id for row in lines(files, "train.jsonl"))


def test_a_student_of_another_family_is_told_what_to_do(tmp_path: Path, gateway: FakeGateway) -> None:
    tiny.tokenizer().save_pretrained(tmp_path / "words")
    tiny.save(tmp_path / "student", tiny.model(vocab=300), tiny.tokenizer(size=300))
    code, place = execute(tmp_path, gateway, "preflight", spec(tmp_path, endpoint={"tokenizer": {"uri": f"file://{tmp_path}/words"}}))
    assert (code, place.result().reason) == (USER_MISTAKE, "TokenizerMismatch")
    assert "or remove teacher.endpoint.tokenizer" in place.result().message


def test_a_tokenizer_that_is_not_there(tmp_path: Path, gateway: FakeGateway) -> None:
    tiny.save(tmp_path / "student", tiny.model(), tiny.tokenizer())
    (tmp_path / "words").mkdir()
    (tmp_path / "words/vocab.txt").write_text("a")
    code, place = execute(tmp_path, gateway, "preflight", spec(tmp_path, endpoint={"tokenizer": {"uri": f"file://{tmp_path}/words"}}))
    assert (code, place.result().reason) == (USER_MISTAKE, "NotFound")
    assert "spec.teacher.endpoint.tokenizer.uri" in place.result().message
    assert "holds no tokenizer.json (found vocab.txt)" in place.result().message


def test_prompts_that_are_too_long_are_told_before_they_are_paid_for(tmp_path: Path, gateway: FakeGateway) -> None:
    """With the teacher's tokenizer they are not asked at all."""
    tiny.save(tmp_path / "student", tiny.model(), tiny.tokenizer())
    rows = [*PROMPTS, {"id": "long", "prompt": "say fox " * 60}]
    code, place = execute(tmp_path, gateway, "preflight", spec(tmp_path, rows=rows))
    assert code == 0
    assert "1 prompts alone have training.maxSequenceLength (64) tokens or more" in place.result().message
    job = spec(tmp_path, rows=rows)
    job["data"]["overflow"] = "fail"
    assert execute(tmp_path, gateway, "preflight", job)[0] == USER_MISTAKE
    tiny.tokenizer().save_pretrained(tmp_path / "words")
    job = spec(tmp_path, rows=rows, endpoint={"tokenizer": {"uri": f"file://{tmp_path}/words"}})
    assert execute(tmp_path, gateway, "traces", job)[0] == 0
    assert len(gateway.asked) == 16
    assert lines(finished(tmp_path, "traces")[1], "dropped.jsonl")[0]["reason"] == "tooLong"


WORDS_HERE = {"tokenizer": {"uri": "file:///words"}}
DIGESTS = {"teacher": "1" * 64, "tokenizer": "2" * 64, "train": "3" * 64, "evaluation": "4" * 64, "student": "5" * 64}


@pytest.mark.parametrize(
    ("endpoint", "changed", "new"),
    [
        ({"shards": 8}, {}, False),
        ({"maxFailureRatio": "0.5"}, {}, False),
        ({"teacher": "another-name-of-the-same"}, {}, False),
        ({"sampling": {"maxCompletionTokens": 9}}, {}, True),
        ({}, {"teacher": "9" * 64}, True),
        ({}, {"tokenizer": "9" * 64}, True),
        ({}, {"student": "9" * 64}, False),
    ],
)
def test_answers_are_bought_anew_only_where_they_would_be_others(
    tmp_path: Path, endpoint: dict[str, Any], changed: dict[str, str], new: bool
) -> None:
    """The hash of the traces stage."""
    hashes = [
        stage_hashes(tiny.Place(tmp_path, spec(tmp_path, endpoint={**WORDS_HERE, **more})).job.spec, {**DIGESTS, **other}, "owner")[
            "traces"
        ]
        for more, other in (({}, {}), (endpoint, changed))
    ]
    assert (hashes[0] != hashes[1]) == new


def test_a_message_of_a_tool_is_refused_by_preflight(tmp_path: Path, gateway: FakeGateway) -> None:
    tiny.save(tmp_path / "student", tiny.model(), tiny.tokenizer())
    rows = [{"prompt": [{"role": "user", "content": "hi"}, {"role": "tool", "content": "42"}]}, *PROMPTS]
    code, place = execute(tmp_path, gateway, "preflight", spec(tmp_path, rows=rows))
    assert (code, place.result().reason) == (USER_MISTAKE, "RowsInvalid")
    assert "train.jsonl line 1: holds a message of role 'tool'" in place.result().message

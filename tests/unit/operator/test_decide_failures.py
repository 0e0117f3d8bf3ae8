"""What costs an attempt, what costs nothing, what ends the job."""

from __future__ import annotations

from typing import Any

import pytest
from tests.unit.operator.objects import EXPORT, NOW, SPEC, Story, ended, pod, says

from distillery.api.measure import EvaluationResult
from distillery.api.result import Progress
from distillery.cluster import Body
from distillery.decide.record import retry_at
from distillery.observe import Refusal


def training(spec: Body | None = None) -> Story:
    """A job whose train stage runs."""
    story = Story(spec)
    story.reach("train")
    return story


@pytest.mark.parametrize(
    ("code", "text", "more", "reason", "words"),
    [
        (1, "Traceback\nValueError: boom", {}, "InternalError", "ValueError: boom"),
        (75, says(reason="StoreUnavailable", message="s3://models: 503"), {}, "StoreUnavailable", "s3://models: 503"),
        (75, "", {}, "StoreUnavailable", "not available"),
        (137, "", {"terminated_reason": "OOMKilled"}, "OutOfMemory", "spec.scheduling.stages.train.resources.limits.memory"),
        (137, "", {"terminated_reason": "Error"}, "InternalError", "exit 137"),
        (None, "", {}, "InternalError", "no exit code"),
    ],
)
def test_failures_cost_an_attempt_and_are_tried_again(code: int, text: str, more: Body, reason: str, words: str) -> None:
    story = training()
    decision = story.fail("train", code, text, **more)
    stage = story.stage("train")
    assert (stage.state, stage.attempts, stage.runs, stage.job_name, stage.reason) == ("Waiting", 1, 1, None, reason)
    assert words in stage.message
    assert "attempt 1 of 3" in stage.message
    assert story.condition("Succeeded")[0] == "Unknown"
    assert [event["reason"] for event in decision.events] == ["StageRetried"]
    story.wait(10)
    story.settle()
    assert (story.stage("train").state, story.stage("train").runs) == ("Running", 2)


@pytest.mark.parametrize(
    ("pods", "finished"),
    [
        ((ended(137, disrupted="PreemptionByScheduler"),), "Failed"),
        ((ended(137, eviction="The node was low on resource: memory."),), "Failed"),
        ((ended(137, deleting=True),), "Failed"),
        ((ended(143),), "Failed"),
        ((), "Failed"),
        ((ended(0, "OOM-like noise"),), "Complete"),
        ((), "Complete"),
    ],
)
def test_what_comes_from_outside_costs_nothing(pods: tuple[Any, ...], finished: str) -> None:
    story = training()
    story.change("train", finished=finished, pods=pods)
    decision = story.act()
    stage = story.stage("train")
    assert (stage.attempts, stage.runs, stage.state, stage.stale_runs) == (0, 1, "Pending", 1)
    assert [event["reason"] for event in decision.events] == ["StageInterrupted"]
    story.settle()
    assert story.stage("train").state == "Running"


@pytest.mark.parametrize(
    "said",
    [
        'Usage of EmptyDir volume "work" exceeds the limit "500Gi". ',
        'Container stage exceeded its local ephemeral storage limit "10Gi". ',
        "Pod ephemeral local storage usage exceeds the total limit of containers 10Gi. ",
    ],
)
def test_a_pod_that_is_evicted_for_what_it_wrote_itself_is_not_run_again_for_ever(said: str) -> None:
    """It would write as much again; only a node that is full is somebody else's doing."""
    story = training()
    story.change("train", finished="Failed", pods=(ended(137, eviction=said, disrupted="TerminationByKubelet"),))
    story.act()
    stage = story.stage("train")
    assert (stage.state, stage.reason) == ("Failed", "DiskFull")
    assert said.strip() in stage.message
    assert "raise spec.scheduling.stages.train.resources.limits.ephemeral-storage" in stage.message


@pytest.mark.parametrize("how", ["vanished", "deleted"])
def test_a_job_that_someone_removes_is_made_again_when_it_is_gone(how: str) -> None:
    story = training()
    if how == "deleted":
        story.change("train", deleting=True, pods=(pod(deleting=True),))
        story.settle()
        assert len(story.runs) == 4  # its pod still writes its checkpoint
    story.runs.pop(story.run("train").name)
    story.settle()
    stage = story.stage("train")
    assert (stage.state, stage.runs, stage.attempts) == ("Running", 2, 0)


def test_a_users_mistake_ends_the_job_with_the_stages_own_words() -> None:
    story = training()
    decision = story.fail("train", 64, says(reason="TokenizerMismatch", message="vocabularies differ: use hardLabel"))
    expected = "TokenizerMismatch", "stage train: vocabularies differ: use hardLabel"
    assert story.condition("Succeeded") == ("False", *expected)
    assert story.condition("Stalled") == ("True", *expected)
    assert story.condition("Trained") == ("False", *expected)
    assert story.condition("TracesReady")[0] == "True"
    assert (decision.status.phase, decision.requeue_after) == ("Failed", None)
    assert story.stage("train").state == "Failed"


def test_a_mistake_without_a_result_is_shown_as_text() -> None:
    story = training()
    story.fail("train", 64, "plain words")
    assert story.condition("Succeeded") == ("False", "BadInput", "stage train: plain words")


def test_a_missed_gate_of_evaluation_keeps_the_measurement() -> None:
    story = Story()
    story.reach("evaluate")
    found = EvaluationResult(rows=200, passed=False)
    story.fail("evaluate", 64, says(reason="QualityGateFailed", message="retention 0.4 is below 0.9", evaluation=found))
    assert story.condition("Evaluated")[:2] == ("False", "QualityGateFailed")
    assert story.job.status.evaluation == found


def test_the_other_exports_are_stopped_when_one_ends_the_job() -> None:
    story = Story(SPEC | {"exports": [EXPORT, EXPORT | {"name": "q8"}]})
    story.reach("export-q4")
    decision = story.fail("export-q4", 64, says(reason="Unsupported", message="no"))
    assert decision.requeue_after == 0
    assert decision.delete == ()
    assert [d.name for d in story.act().delete] == [story.run("export-q8").name]
    assert (story.stage("export-q8").state, story.stage("export-q8").job_name) == ("Stopped", None)
    assert story.stage("publish").state == "Pending"


@pytest.mark.parametrize(("limit", "failures"), [(0, 1), (1, 2), (2, 3)])
def test_attempts_end_with_the_backoff_limit(limit: int, failures: int) -> None:
    story = training(SPEC | {"backoffLimit": limit})
    for attempt in range(1, failures + 1):
        assert story.condition("Succeeded")[0] == "Unknown"
        story.fail("train", 1, f"boom {attempt}")
        story.wait(300)
        story.settle()
    status, reason, message = story.condition("Succeeded")
    assert (status, reason) == ("False", "BackoffLimitExceeded")
    assert f"{failures} of {failures} attempts failed" in message
    assert f"boom {failures}" in message


def test_retries_wait_twice_as_long_each_time_up_to_five_minutes() -> None:
    story = training(SPEC | {"backoffLimit": 100})
    waits = []
    for _ in range(8):
        story.fail("train", 1)
        when = retry_at(story.stage("train"))
        assert when is not None
        waits.append(when - story.now.timestamp())
        assert story.act().create == ()
        story.wait(waits[-1])
        story.settle()
    assert waits == [10, 20, 40, 80, 160, 300, 300, 300]


def test_the_delay_counts_from_the_failure_not_from_when_it_was_seen() -> None:
    story = training()
    story.wait(60)
    story.fail("train", 1, finished_at="2026-01-01T12:00:55Z")
    assert retry_at(story.stage("train")) == NOW.timestamp() + 65


def interrupt(story: Story, step: int | None = None) -> None:
    """The train stage is preempted; its last report had this checkpoint."""
    reports = {"train": Progress(stage="train", checkpoint_step=step)} if step is not None else {}
    story.change("train", finished="Failed", pods=(ended(143),))
    story.act(progress=reports)
    story.wait(300)
    story.settle()


def test_twenty_interruptions_without_a_new_checkpoint_end_the_job() -> None:
    story = training()
    for _ in range(19):
        interrupt(story)
        assert story.condition("Succeeded")[0] == "Unknown"
    interrupt(story)
    assert story.condition("Stalled")[:2] == ("True", "NoProgress")
    assert story.stage("train").runs == 20


def test_interruptions_with_new_checkpoints_never_end_the_job() -> None:
    story = training()
    for step in range(60):
        interrupt(story, 100 * (step + 1))
    assert story.condition("Succeeded")[0] == "Unknown"
    assert (story.stage("train").runs, story.stage("train").attempts, story.stage("train").stale_runs) == (61, 0, 0)


@pytest.mark.parametrize(("step", "expected"), [(None, "False"), (0, "False"), (500, "Unknown")])
def test_pods_that_the_job_controller_replaces_count_as_well(step: int | None, expected: str) -> None:
    story = training()
    pods = tuple(ended(143, name=f"p{i}", uid=f"u{i}") for i in range(20))
    story.change("train", pods=(*pods, pod()))
    reports = {"train": Progress(stage="train", checkpoint_step=step)} if step is not None else {}
    story.act(progress=reports)
    assert story.condition("Succeeded")[0] == expected
    assert story.stage("train").job_name is (None if expected == "Unknown" else story.stage("train").job_name)


def test_the_next_run_waits_until_the_last_pod_of_the_one_before_is_gone() -> None:
    story = training()
    story.change("train", deleting=True, pods=(pod(deleting=True),))
    story.settle()
    assert (story.stage("train").runs, story.stage("train").job_name) == (1, None)


def test_a_job_that_the_server_will_never_accept_ends_with_its_words() -> None:
    story = Story()
    story.act()
    story.act()
    name = story.stage("preflight").job_name
    story.act(refusals={name: Refusal("spec.template.spec.affinity: Invalid value", final=True)})
    status, reason, message = story.condition("Succeeded")
    assert (status, reason) == ("False", "InvalidSpec")
    assert "affinity: Invalid value" in message
    assert "spec.scheduling.stages.preflight" in message

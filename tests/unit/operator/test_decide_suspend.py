"""suspend, resume, edit, cancel, invalid specs, the deadline and the end of the object."""

from __future__ import annotations

from dataclasses import replace

import pytest
from tests.unit.operator.objects import OUTPUT, SPEC, Story, ended, pod

from distillery.decide import Deletion


def suspended() -> Story:
    """A job that was suspended in training; its pod is gone."""
    story = Story()
    story.reach("train")
    story.change("train", pods=(pod(),))
    story.edit(suspend=True)
    story.settle()
    story.runs.pop(story.run("train").name)
    story.settle()
    return story


def test_suspending_deletes_the_job_and_waits_for_its_last_pod() -> None:
    story = Story()
    story.reach("train")
    story.change("train", pods=(pod(),))
    story.edit(suspend=True)
    first = story.act()
    assert first.delete == ()
    assert first.requeue_after == 0
    assert (story.stage("train").state, story.stage("train").job_name) == ("Suspended", None)
    assert story.condition("Suspended")[:2] == ("False", "Suspending")
    run = story.run("train")
    assert story.act().delete == (Deletion("Job", run.name, run.uid),)
    story.change("train", deleting=True, pods=(pod(deleting=True),))
    assert story.act().delete == ()
    assert story.condition("Suspended")[0] == "False"
    story.runs.pop(run.name)
    decision = story.act(stray_pods=1)
    assert story.condition("Suspended")[0] == "False"
    decision = story.act()
    assert story.condition("Suspended")[:2] == ("True", "SuspendedByUser")
    assert [event["reason"] for event in decision.events] == ["Suspended"]
    assert (decision.status.phase, decision.requeue_after, decision.status.active_since) == ("Suspended", None, None)


def test_resuming_is_written_before_anything_is_created_and_takes_the_next_run() -> None:
    story = suspended()
    story.edit(suspend=False)
    decision = story.act()
    assert decision.create == ()
    assert decision.requeue_after == 0
    assert story.condition("Suspended")[:2] == ("False", "Resumed")
    (body,) = story.act().create
    assert body["metadata"]["name"].endswith("-2")
    assert (story.stage("train").runs, story.stage("train").attempts) == (2, 0)


def test_a_job_that_is_created_suspended_starts_nothing() -> None:
    story = Story(SPEC | {"suspend": True})
    decision = story.settle()
    assert (story.runs, decision.status.start_time) == ({}, None)
    assert story.condition("Suspended")[0] == "True"
    story.edit(suspend=False)
    story.settle()
    assert story.stage("preflight").state == "Running"


def test_an_edit_while_suspended_runs_preflight_again_and_what_has_another_hash() -> None:
    story = suspended()
    before = story.job.status
    story.edit(training={"learningRate": "0.001"})
    story.settle()
    assert (story.job.status.spec_hash != before.spec_hash, story.stage("preflight").state) == (True, "Pending")
    assert story.stage("traces").state == "Succeeded"
    story.edit(suspend=False)
    story.settle()
    assert (story.stage("preflight").state, story.stage("preflight").runs) == ("Running", 2)
    assert story.config_map is not None
    story.finish("preflight")
    states = {s.name: (s.state, s.runs) for s in story.job.status.stages}
    assert states["traces"] == ("Succeeded", 1)
    assert states["curate"] == ("Succeeded", 1)
    assert states["train"] == ("Running", 2)
    assert story.stage("train").hash != next(s.hash for s in before.stages if s.name == "train")


def test_an_edit_that_changes_nothing_that_counts_keeps_all_stages() -> None:
    story = suspended()
    story.edit(scheduling={"priorityClassName": "low"}, suspend=False)
    story.settle()
    story.finish("preflight")
    assert story.stage("curate").runs == 1
    assert (story.stage("train").state, story.stage("train").runs) == ("Running", 2)


@pytest.mark.parametrize(("reused", "runs"), [([], 2), (["evaluate"], 1)])
def test_edited_gates_are_checked_again_unless_preflight_has(reused: list[str], runs: int) -> None:
    story = Story()
    story.reach("publish")
    story.edit(suspend=True)
    story.settle()
    story.runs = {name: run for name, run in story.runs.items() if run.stage != "publish"}
    story.settle()
    story.edit(suspend=False, evaluation={"gates": [{"metric": "retention", "min": "0.9"}]})
    story.settle()
    story.finish("preflight", reused=reused)
    assert story.stage("evaluate").runs == runs


def test_a_stage_that_finished_while_it_was_to_be_suspended_counts() -> None:
    story = Story()
    story.reach("train")
    story.edit(suspend=True)
    story.change("train", finished="Complete", pods=(ended(0, '{"message":"done"}'),))
    story.settle()
    assert story.stage("train").state == "Succeeded"
    assert story.condition("Suspended")[0] == "True"


def test_cancel_is_final() -> None:
    story = Story()
    story.reach("train")
    story.edit(cancel=True)
    first = story.act()
    assert story.condition("Succeeded")[:2] == ("False", "Cancelled")
    assert story.condition("Stalled")[:2] == ("True", "Cancelled")
    assert first.requeue_after == 0
    run = story.run("train")
    assert story.act().delete == (Deletion("Job", run.name, run.uid),)
    story.runs = {}
    assert story.act().create == ()


@pytest.mark.parametrize("started", [False, True])
def test_an_invalid_spec_is_said_and_waits_for_its_correction(started: bool) -> None:
    story = Story()
    if started:
        story.reach("train")
    jobs = dict(story.runs)
    story.edit(output={"uri": "file:///tmp/out"})
    decision = story.settle()
    assert story.condition("Validated")[:2] == ("False", "InvalidSpec")
    assert story.condition("Stalled")[:2] == ("True", "InvalidSpec")
    assert "spec.output.uri" in story.condition("Stalled")[2]
    assert story.condition("Succeeded")[0] == "Unknown"
    assert (decision.create, decision.delete, story.runs) == ((), (), jobs)
    story.edit(output={"uri": OUTPUT})
    story.settle()
    assert story.condition("Stalled")[0] == "False"
    assert story.stage("train" if started else "preflight").state == "Running"


def test_a_deadline_counts_work_alone() -> None:
    story = Story(SPEC | {"activeDeadlineSeconds": 100})
    story.reach("train")
    story.change("train", pods=(pod(),))
    story.wait(60)
    story.edit(suspend=True)
    story.settle()
    assert story.job.status.active_seconds == 60
    story.runs.pop(story.run("train").name)
    story.wait(10_000)
    story.edit(suspend=False)
    decision = story.settle()
    assert decision.requeue_after == 30
    story.wait(39)
    story.settle()
    assert story.condition("Succeeded")[0] == "Unknown"
    story.wait(1)
    story.act()
    assert story.condition("Succeeded")[:2] == ("False", "DeadlineExceeded")
    assert story.job.status.active_seconds == 100
    assert len(story.act().delete) == 1


def test_a_deadline_wakes_the_operator() -> None:
    story = Story(SPEC | {"activeDeadlineSeconds": 45})
    story.settle()
    story.change("preflight", pods=(pod(),))
    assert story.settle().requeue_after == 45


def test_waiting_for_quota_is_no_work() -> None:
    story = Story(SPEC | {"activeDeadlineSeconds": 100, "scheduling": {"queueName": "gpus"}})
    story.settle()
    story.wait(1000)
    story.settle()
    assert (story.stage("preflight").state, story.stage("preflight").reason) == ("Waiting", "WaitingForQuota")
    assert story.condition("QuotaReserved")[:2] == ("False", "WaitingForQuota")
    story.change("preflight", suspended=False, pods=(pod(),))
    story.settle()
    assert story.condition("QuotaReserved")[0] == "True"
    assert story.stage("preflight").state == "Running"
    story.wait(50)
    story.change("preflight", suspended=True, pods=())  # Kueue preempts it
    story.settle()
    assert (story.job.status.active_seconds, story.stage("preflight").attempts) == (50, 0)
    assert story.condition("QuotaReserved")[0] == "False"


@pytest.mark.parametrize(("seconds", "deleted"), [(99, False), (100, True)])
def test_a_finished_object_is_deleted_after_its_time(seconds: int, deleted: bool) -> None:
    story = Story(SPEC | {"ttlSecondsAfterFinished": 100})
    story.reach("publish")
    decision = story.finish("publish", model_uri=f"{OUTPUT}/model")
    assert decision.requeue_after == 100
    story.wait(seconds)
    decision = story.act()
    assert decision.delete == ((Deletion("DistillationJob", "tiny", "uid-1"),) if deleted else ())


def test_an_old_read_leads_to_nothing() -> None:
    story = Story()
    story.settle()
    old = story.job
    story.finish("preflight")
    story.job = replace(old, resource_version="1")
    decision = story.act()
    assert (decision.create, decision.delete, decision.events, decision.status) == ((), (), (), old.status)
    assert decision.requeue_after is not None

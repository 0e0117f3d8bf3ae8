"""Why nothing runs, in the status within a minute, with the remedy; and progress while it does."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from tests.unit.operator.objects import NOW, SETTINGS, SPEC, Story, ended, pod

from distillery.api.measure import MetricValue
from distillery.api.result import Progress
from distillery.decide.waiting import unexplained
from distillery.observe import Refusal
from distillery.runs import Pod
from distillery.timestamps import stamp

INSTALLED = replace(SETTINGS, gateway_url="http://gateway")


def starting(**fields: Any) -> Story:
    """A job whose preflight has a pod that does not run."""
    story = Story()
    story.settle()
    story.change("preflight", pods=(pod("Pending", **fields),))
    return story


def begun() -> Story:
    """A job whose preflight the Job controller has begun with, half a minute ago, and has no pod yet."""
    story = Story()
    story.settle()
    story.change("preflight", started=stamp(NOW))
    story.wait(30)
    return story


def warning(reason: str, message: str, time: str = "2026-01-01T12:00:20Z") -> dict[str, str]:
    return {"type": "Warning", "reason": reason, "message": message, "lastTimestamp": time}


@pytest.mark.parametrize(
    ("fields", "reason", "words"),
    [
        (
            {"waiting_reason": "CreateContainerConfigError", "waiting_message": 'secret "s3" not found'},
            "SecretMissing",
            'create Secret "s3"',
        ),
        (
            {"waiting_reason": "CreateContainerConfigError", "waiting_message": "couldn't find key AWS_ACCESS_KEY_ID in Secret team-a/s3"},
            "SecretMissing",
            "add key AWS_ACCESS_KEY_ID",
        ),
        ({"waiting_reason": "ImagePullBackOff", "waiting_message": "Back-off pulling image"}, "ImageUnavailable", "imagePullSecrets"),
        ({"unscheduled": "0/3 nodes are available: 3 Insufficient nvidia.com/gpu."}, "Unschedulable", "spec.scheduling.stages.preflight"),
        ({"unscheduled": 'persistentvolumeclaim "rows" not found'}, "VolumeUnavailable", 'create PersistentVolumeClaim "rows"'),
        ({"unscheduled": "pod has unbound immediate PersistentVolumeClaims"}, "VolumeUnavailable", "kubectl describe pvc"),
        ({}, "Waiting", "pod pod-1 is Pending"),
    ],
)
def test_a_pods_own_words(fields: dict[str, str], reason: str, words: str) -> None:
    story = starting(**fields)
    story.wait(29)
    assert story.act().status.stages[0].state == "Running"
    story.wait(1)
    decision = story.act()
    stage = story.stage("preflight")
    assert (stage.state, stage.reason, stage.attempts) == ("Waiting", reason, 0)
    assert words in stage.message
    assert decision.requeue_after == (30 if reason == "Waiting" else None), "what has said why it waits is not asked again"
    story.change("preflight", pods=(pod(),))
    story.act()
    assert (story.stage("preflight").state, story.stage("preflight").message) == ("Running", None)


@pytest.mark.parametrize(
    ("words", "reason", "remedy"),
    [
        ('pods "tiny-a-x7k2p" is forbidden: exceeded quota: small, requested: cpu=1', "QuotaExceeded", "ResourceQuota"),
        ('pods "tiny-a-x7k2p" is forbidden: error looking up service account team-a/trainer: serviceaccount "trainer" not found',
         "ServiceAccountMissing", 'create ServiceAccount "trainer"'),
        ('pods "tiny-a-x7k2p" is forbidden: no PriorityClass with name low was found', "PodRefused", 'create PriorityClass "low"'),
        ('pods "tiny-a-x7k2p" is forbidden: violates PodSecurity "restricted:latest"', "PodRefused", "platform team"),
        ('pods "tiny-a-x7k2p" is forbidden: pod rejected: RuntimeClass "nvidia" not found', "PodRefused", 'create RuntimeClass "nvidia"'),
    ],
)  # fmt: skip
def test_events_of_a_job_without_pods(words: str, reason: str, remedy: str) -> None:
    story = begun()
    run = story.run("preflight")
    events = {run.uid: [warning("FailedCreate", "older", "2026-01-01T11:00:00Z"), warning("FailedCreate", f"Error creating: {words}")]}
    story.act(events=events)
    stage = story.stage("preflight")
    assert (stage.state, stage.reason) == ("Waiting", reason)
    assert remedy in stage.message
    assert "x7k2p" not in stage.message


def test_events_of_a_pod_whose_container_is_being_made() -> None:
    story = starting(waiting_reason="ContainerCreating")
    story.wait(30)
    story.act(events={"pod-uid-1": [warning("FailedMount", 'MountVolume.SetUp failed for volume "job": configmap "x" not found')]})
    assert story.stage("preflight").reason == "VolumeUnavailable"


def test_a_job_that_its_controller_has_not_begun_says_so() -> None:
    story = Story()
    story.settle()
    story.wait(30)
    decision = story.act()
    stage = story.stage("preflight")
    assert (stage.state, stage.reason, decision.requeue_after) == ("Waiting", "Waiting", None)
    assert "was not begun yet by the Job controller" in stage.message
    story.wait(300)
    story.change("preflight", started=stamp(story.now))
    assert story.act().requeue_after == 30
    story.wait(30)
    story.act()
    assert "has no running pod yet" in story.stage("preflight").message


def test_a_pod_that_ended_and_was_not_counted_yet() -> None:
    story = begun()
    story.change("preflight", active=1, pods=(ended(0),))
    story.act()
    assert "was not seen yet by the Job controller" in story.stage("preflight").message


@pytest.mark.parametrize(
    ("begun", "active", "pods", "after", "uid"),
    [
        (False, 0, (), 3600, None),
        (True, 0, (), 29, None),
        (True, 0, (), 30, "run"),
        (True, 0, (ended(143),), 30, "run"),
        (True, 1, (ended(0),), 30, None),
        (True, 1, (pod("Pending"),), 30, "pod-uid-1"),
        (True, 1, (pod("Pending", waiting_reason="ContainerCreating"),), 30, "pod-uid-1"),
        (True, 1, (pod("Pending", waiting_reason="ImagePullBackOff"),), 30, None),
        (True, 1, (pod("Pending", unscheduled="0/3 nodes are available"),), 30, None),
        (True, 1, (pod("Running"),), 30, None),
    ],
)
def test_events_are_read_of_what_says_nothing_itself(begun: bool, active: int, pods: tuple[Pod, ...], after: int, uid: str | None) -> None:
    story = Story()
    story.settle()
    story.change("preflight", uid="run", started=stamp(NOW) if begun else None, active=active, pods=pods)
    assert unexplained(story.run("preflight"), NOW + timedelta(seconds=after)) == uid


def test_what_says_nothing_is_looked_at_after_twice_the_time_and_then_no_more() -> None:
    story = starting(waiting_reason="ContainerCreating")
    looks: list[float] = [30]
    story.wait(30)
    while (after := story.act().requeue_after) is not None:
        looks.append(after)
        story.wait(after)
    assert looks == [30, 30, 60, 120]


def test_a_pod_whose_events_say_why_is_not_looked_at_again() -> None:
    story = starting(waiting_reason="ContainerCreating")
    story.wait(30)
    events = {"pod-uid-1": [warning("FailedMount", 'MountVolume.SetUp failed for volume "job": configmap "x" not found')]}
    assert story.act(events=events).requeue_after is None


def test_the_same_cause_is_written_and_told_once() -> None:
    story = begun()
    run = story.run("preflight")
    told = []
    for name in ("aaaaa", "bbbbb", "ccccc"):
        events = {run.uid: [warning("FailedCreate", f'Error creating: pods "tiny-{name}" is forbidden: exceeded quota: small')]}
        before = story.job.status
        decision = story.act(events=events)
        told.append((len(decision.events), decision.status == before))
        story.wait(30)
    assert told == [(1, False), (0, True), (0, True)]


def test_a_pod_that_is_replaced_gets_its_time_to_start() -> None:
    story = starting()
    later = NOW + timedelta(hours=1)
    story.change("preflight", pods=(ended(143, finished_at="2026-01-01T13:00:00Z"), pod("Pending", created=later)))
    story.wait(3610)
    assert story.act().status.stages[0].state == "Running"


def test_a_refused_job_waits_and_is_tried_again() -> None:
    story = Story()
    story.act()
    story.act()
    name = story.stage("preflight").job_name
    refusals = {name: Refusal('jobs.batch "x" is forbidden: exceeded quota: count')}
    decision = story.act(refusals=refusals)
    story.runs.clear()
    stage = story.stage("preflight")
    assert (stage.state, stage.reason, stage.run_start_time, stage.start_time) == ("Waiting", "QuotaExceeded", None, None)
    assert decision.requeue_after == 30
    assert story.condition("Reconciling")[0] == "True"
    (body,) = story.act().create
    assert body["metadata"]["name"] == name
    assert story.stage("preflight").state == "Running"


def test_a_config_map_of_someone_else_is_waited_for() -> None:
    story = Story()
    story.act()
    story.config_map = {"metadata": {"ownerReferences": []}, "data": {}}
    decision = story.act()
    assert decision.create == ()
    assert (story.stage("preflight").state, story.stage("preflight").reason) == ("Waiting", "NameConflict")
    assert decision.requeue_after == 30
    story.config_map = None
    story.settle()
    assert story.stage("preflight").state == "Running"


def running() -> Story:
    """Preflight runs, in an installation with a gateway."""
    story = Story(settings=INSTALLED)
    story.settle()
    story.change("preflight", pods=(pod(),))
    return story


def report(percentage: int, **more: Any) -> dict[str, Progress]:
    return {"preflight": Progress(**{"stage": "preflight", "percentage": percentage, **more})}


def test_progress_is_taken_over_at_most_every_thirty_seconds() -> None:
    story = running()
    writes = 0
    for second in range(0, 300, 5):
        before = story.job.status
        writes += story.act(progress=report(second // 5)).status != before
        story.wait(5)
    assert writes == 10


def test_a_report_is_shown_and_of_another_hash_is_not() -> None:
    story = running()
    metrics = [MetricValue(name="loss", value="0.5")]
    told = report(40, done=4, total=10, unit="rows", estimated_remaining_seconds=60, metrics=metrics, message="row 4")
    story.act(progress={"preflight": told["preflight"].model_copy(update={"hash": "f" * 64})})
    assert story.stage("preflight").progress is None
    decision = story.act(progress=told)
    stage = story.stage("preflight")
    assert (stage.progress.percentage, stage.progress.done, stage.progress.unit, stage.metrics, stage.message) == (
        40,
        4,
        "rows",
        metrics,
        "row 4",
    )
    assert decision.status.progress is not None
    assert decision.status.progress.estimated_remaining_seconds == 60
    assert decision.requeue_after == 30


def test_the_jobs_percentage_never_falls() -> None:
    story = Story()
    story.reach("train")
    story.change("train", pods=(pod(),))
    seen = []
    for percentage in (50, 20, 90):
        story.act(progress={"train": Progress(stage="train", percentage=percentage)})
        progress = story.job.status.progress
        assert progress is not None
        seen.append(progress.percentage)
        story.wait(30)
    assert seen == [58, 58, 78]


def test_a_fixed_point_is_reached_in_every_state() -> None:
    story = Story(SPEC | {"scheduling": {"queueName": "q"}})
    for stage in ("preflight", "traces", "curate"):
        story.settle()
        story.settle()  # the Job is seen to be held back
        before = story.job.status
        again = story.act()
        assert (again.status, again.create, again.delete, again.events) == (before, (), (), ())
        story.change(stage, suspended=False, pods=(pod(),))
        story.settle()
        again = story.act()
        assert (again.status, again.create, again.delete, again.events) == (story.job.status, (), (), ())
        story.finish(stage)

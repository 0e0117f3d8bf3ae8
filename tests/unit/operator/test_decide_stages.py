"""The way of a job when stages go well: announced, created, recorded, reused."""

from __future__ import annotations

from dataclasses import replace

import pytest
from tests.unit.operator.objects import DIGESTS, EXPORT, OUTPUT, SPEC, Story, pod

from distillery.api import reasons
from distillery.api.hashes import stage_hashes
from distillery.api.job import DistillationJobSpec
from distillery.api.measure import Artifact, EvaluationResult, EvaluationRow, MetricValue


def test_the_first_pass_writes_the_intent_and_creates_nothing() -> None:
    story = Story()
    decision = story.act()
    assert decision.create == ()
    assert decision.requeue_after == 0
    status = decision.status
    assert (status.observed_generation, status.start_time, status.phase) == (1, "2026-01-01T12:00:00Z", "Preflight")
    assert [c.type for c in status.conditions] == list(reasons.CONDITIONS)
    unknown = {c.type for c in status.conditions if c.status == "Unknown"}
    assert unknown == {"Validated", "TracesReady", "Trained", "Evaluated", "Published", "Succeeded"}
    assert story.condition("Reconciling")[0] == "True"
    assert [(s.name, s.state, s.runs, s.job_name) for s in status.stages][:2] == [
        ("preflight", "Pending", 1, f"tiny-preflight-{status.spec_hash[:6] if status.spec_hash else ''}-1"),
        ("traces", "Pending", 0, None),
    ]


def test_the_config_map_comes_before_the_first_job_and_both_once() -> None:
    story = Story()
    story.act()
    assert [body["kind"] for body in story.act().create] == ["ConfigMap"]
    decision = story.act()
    assert [body["metadata"]["name"] for body in decision.create] == [story.stage("preflight").job_name]
    assert story.stage("preflight").state == "Running"
    assert story.condition("Reconciling")[:2] == ("False", "Running")
    assert story.act().create == ()


def test_a_running_job_keeps_its_image_when_the_operator_is_upgraded() -> None:
    story = Story()
    story.settle()
    story.settings = replace(story.settings, trainer_image="trainer:2")
    story.finish("preflight")
    assert story.config_map is not None
    assert story.act().create == ()
    assert "trainer:1" in story.config_map["data"]["job.json"]


def test_jobs_use_the_image_of_the_config_map() -> None:
    story = Story()
    story.act()
    story.act()
    story.settings = replace(story.settings, trainer_image="trainer:2")
    (body,) = story.act().create
    assert body["spec"]["template"]["spec"]["containers"][0]["image"] == "trainer:1"


def test_a_stage_starts_when_its_needs_are_met_and_is_told_all_earlier_hashes() -> None:
    story = Story(SPEC | {"exports": [EXPORT, EXPORT | {"name": "q8", "quantization": "q8_0"}]})
    story.reach("export-q4")
    exports = [run for run in story.runs.values() if run.stage.startswith("export-")]
    assert len(exports) == 2
    assert story.stage("publish").state == "Pending"
    story.finish("export-q4")
    assert story.stage("publish").job_name is None
    story.finish("export-q8")
    assert story.stage("publish").state == "Running"


@pytest.mark.parametrize(
    ("reused", "created"),
    [
        ([], {"traces"}),
        (["traces", "curate", "train"], {"evaluate"}),
        (["traces", "curate", "train", "evaluate"], {"export-q4"}),
        (["traces", "curate", "train", "evaluate", "export-q4"], {"publish"}),
    ],
)
def test_reused_stages_get_no_pod(reused: list[str], created: set[str]) -> None:
    story = Story(SPEC | {"exports": [EXPORT]})
    story.settle()
    decision = story.finish("preflight", reused=reused)
    assert {run.stage for run in story.runs.values()} == {"preflight"} | created
    assert {s.name for s in decision.status.stages if s.state == "Reused"} == set(reused)
    if "traces" in reused:
        assert story.condition("TracesReady")[:2] == ("True", "Reused")


def test_hashes_that_are_told_by_position_are_those_of_the_stages() -> None:
    """As preflight does where names and message would be too long for a termination message."""
    story = Story(SPEC | {"exports": [EXPORT]})
    story.settle()
    decision = story.finish("preflight", message="\U0001f511" * 1024, reused=["traces", "curate"])
    (pod,) = story.run("preflight").pods
    assert '"byPosition"' in pod.text
    hashes = stage_hashes(DistillationJobSpec.model_validate(dict(story.job.spec)), DIGESTS, "owner")
    assert {stage.name: stage.hash for stage in decision.status.stages if stage.name != "preflight"} == hashes
    assert [stage.name for stage in decision.status.stages if stage.state == "Reused"] == ["traces", "curate"]


def test_preflight_without_all_hashes_is_a_failed_attempt() -> None:
    story = Story()
    story.settle()
    story.finish("preflight", hashes={"traces": "a" * 64})
    stage = story.stage("preflight")
    assert (stage.state, stage.attempts, stage.reason) == ("Waiting", 1, "InternalError")
    assert "curate, train" in stage.message


def test_the_job_shows_what_its_stages_found() -> None:
    story = Story(SPEC | {"exports": [EXPORT]})
    story.reach("evaluate")
    row = EvaluationRow(metric="exactMatch", teacher="0.98", student="0.95", retention="0.969")
    story.finish("evaluate", evaluation=EvaluationResult(results=[row], passed=True), metrics=[MetricValue(name="rows", value="500")])
    measured = [MetricValue(name="agreement", value="0.99")]
    artifact = Artifact(name="q4", format="gguf", quantization="q4_0", size_bytes=7, passed=True, evaluation=measured)
    story.finish("export-q4", artifact=artifact)
    assert story.job.status.artifacts[0].uri is None
    uri = f"{OUTPUT}/team-a/tiny/uid/artifacts/q4"
    story.finish(
        "publish",
        model_uri=f"{OUTPUT}/team-a/tiny/uid/model",
        report_uri=f"{OUTPUT}/team-a/tiny/uid/manifest.json",
        artifacts=[artifact.model_copy(update={"uri": uri, "evaluation": []})],
    )
    status = story.job.status
    assert story.condition("Succeeded")[:2] == ("True", "Done")
    assert (status.phase, status.model_uri) == ("Succeeded", f"{OUTPUT}/team-a/tiny/uid/model")
    assert (status.artifacts[0].uri, status.artifacts[0].evaluation) == (uri, measured)
    assert status.evaluation is not None
    assert status.evaluation.results == [row]
    assert story.stage("evaluate").metrics == [MetricValue(name="rows", value="500")]
    assert status.progress is not None
    assert status.progress.percentage == 100
    assert status.completion_time is not None
    assert status.active_since is None


def test_an_artifact_that_missed_its_gate_is_withheld_and_the_rest_is_published() -> None:
    story = Story(SPEC | {"exports": [EXPORT]})
    story.reach("export-q4")
    uri = f"{OUTPUT}/stages/export/q4.gguf"
    missed = Artifact(name="q4", format="gguf", quantization="q4_0", uri=uri, passed=False, message="agreement 0.7 is below 0.9")
    story.finish("export-q4", artifact=missed)
    story.finish("publish", model_uri=f"{OUTPUT}/model", artifacts=[missed])
    assert story.condition("Exported") == ("False", "QualityGateFailed", "artifact q4 is withheld: agreement 0.7 is below 0.9")
    assert story.condition("Succeeded")[0] == "True"
    assert "artifact q4 is withheld" in story.condition("Succeeded")[2]
    assert story.job.status.artifacts[0].uri is None


@pytest.mark.parametrize("uri", ["s3://elsewhere/model", f"{OUTPUT}-evil/model", f"{OUTPUT}/../model", f"{OUTPUT}"])
def test_a_result_that_points_elsewhere_is_refused(uri: str) -> None:
    story = Story()
    story.reach("publish")
    story.finish("publish", model_uri=uri)
    stage = story.stage("publish")
    assert (stage.state, stage.attempts, stage.reason) == ("Waiting", 1, "InternalError")
    assert "spec.output.uri" in stage.message
    assert story.job.status.model_uri is None


def test_an_adopted_result_says_so() -> None:
    story = Story()
    story.reach("traces")
    story.finish("traces", adopted=True)
    assert story.stage("traces").reason == "Reused"


def test_an_older_list_of_pods_is_no_lost_result() -> None:
    story = Story()
    story.settle()
    story.change("preflight", finished="Complete", pods=(pod(),))
    before = story.job.status
    assert story.act().status == before


def test_nothing_is_ever_created_after_the_end() -> None:
    story = Story()
    story.reach("publish")
    story.finish("publish", model_uri=f"{OUTPUT}/model")
    story.runs, story.config_map = {}, None  # garbage-collected
    story.edit(suspend=True)
    decision = story.act()
    assert (decision.create, decision.delete, decision.events) == ((), (), ())
    assert decision.status == story.job.status

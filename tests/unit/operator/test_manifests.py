"""The children, against golden files. `GOLDEN=write pytest tests/unit/operator/test_manifests.py` writes them anew; read the diff."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
import yaml
from tests.unit.operator.objects import ENDPOINT_SPEC, EXPORT, NOW, SETTINGS, SPEC, job

from distillery.api.job import FrozenJob
from distillery.manifests import config_map, event, stage_job
from distillery.plan import make_plan
from distillery.settings import Settings

GOLDEN = Path(__file__).parent / "golden"
HASHES = {"traces": "a1" * 32, "curate": "b2" * 32, "train": "c3" * 32}
GPU: dict[str, Any] = {
    "resources": {"limits": {"nvidia.com/gpu": 1, "memory": "16Gi"}},
    "nodeSelector": {"pool": "gpu"},
    "tolerations": [{"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"}],
    "affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [
        {"matchExpressions": [{"key": "kubernetes.io/arch", "operator": "In", "values": ["amd64"]}]}]}}},
}  # fmt: skip
FULL: dict[str, Any] = {
    "teacher": {"model": {"uri": "pvc://models/teacher", "credentialsSecretRef": {"name": "unused"}}},
    "student": {"model": {"uri": "hf://org/student@main", "credentialsSecretRef": {"name": "hub"}}},
    "data": {"train": {"uri": "s3://data/train.jsonl", "credentialsSecretRef": {"name": "rows"}}},
    "output": {"uri": "pvc://results/tiny"},
    "exports": [EXPORT | {"nodeSelector": {"pool": "edge"}}],
    "scheduling": {
        "queueName": "gpus",
        "priorityClassName": "low",
        "serviceAccountName": "trainer",
        "imagePullSecrets": [{"name": "registry"}],
        "runtimeClassName": "nvidia",
        "terminationGracePeriodSeconds": 300,
        "stages": {"train": GPU},
    },
}
TOKENIZED = {"teacher": "gpt-x", "shards": 3, "tokenizer": {"uri": "hf://org/teacher@main", "credentialsSecretRef": {"name": "hub"}}}
INSTALLED = Settings(trainer_image="trainer:1", gateway_url="http://gateway.distillery:80/", stage_env={"HF_ENDPOINT": "http://hub"})


def rendered(spec: dict[str, Any], stage: str, settings: Settings) -> dict[str, Any]:
    subject, plan = job(spec), make_plan("tiny", spec, settings)
    assert plan.spec is not None, plan.problems
    planned = next(s for s in plan.stages if s.name == stage)
    hashes = {"preflight": {"preflight": plan.spec_hash}, "export-q4": HASHES | {"export-q4": "d4" * 32}}.get(stage, HASHES)
    return stage_job(subject, plan, plan.spec, planned, "trainer:1", hashes, 3)


@pytest.mark.parametrize(
    ("name", "spec", "stage", "settings"),
    [
        ("minimal-preflight", SPEC, "preflight", SETTINGS),
        ("full-train", FULL, "train", INSTALLED),
        ("full-export", FULL, "export-q4", INSTALLED),
        ("endpoint-traces", ENDPOINT_SPEC | {"teacher": {"endpoint": TOKENIZED}}, "traces", INSTALLED),
    ],
)
def test_stage_job(name: str, spec: dict[str, Any], stage: str, settings: Settings) -> None:
    assert_golden(name, rendered(spec, stage, settings))


@pytest.mark.parametrize("stage", ["preflight", "traces", "curate", "train", "evaluate", "publish"])
def test_pods_that_ask_about_the_teacher_know_the_gateway(stage: str) -> None:
    (container,) = rendered_for(ENDPOINT_SPEC, stage)["spec"]["template"]["spec"]["containers"]
    urls = [entry["value"] for entry in container["env"] if entry["name"] == "DISTILLERY_GATEWAY_URL"]
    assert urls == (["http://gateway.distillery:80"] if stage in ("preflight", "traces", "publish") else [])


@pytest.mark.parametrize(
    ("resource", "shared"),
    [
        ("nvidia.com/gpu", True),
        ("nvidia.com/mig-1g.10gb", True),
        ("habana.ai/gaudi", True),
        ("aws.amazon.com/neuron", True),
        ("google.com/tpu", True),
        ("memory", False),
        ("hugepages-2Mi", False),
        ("kubernetes.io/batch-gpu", False),
    ],
)
def test_any_accelerator_brings_shared_memory(resource: str, shared: bool) -> None:
    spec = SPEC | {"scheduling": {"stages": {"train": {"resources": {"limits": {resource: 1}}}}}}
    pod = rendered_for(spec, "train")["spec"]["template"]["spec"]
    assert ("shm" in {volume["name"] for volume in pod["volumes"]}) is shared
    assert ("/dev/shm" in {mount["mountPath"] for mount in pod["containers"][0]["volumeMounts"]}) is shared


def test_scratch_space_is_bounded_by_the_stages_own_limit_or_by_the_installation() -> None:
    """An empty folder without a bound lets one pod fill its node, and evict the others there."""
    limits = {"ephemeral-storage": "2Ti", "nvidia.com/gpu": "1"}
    spec = SPEC | {"scheduling": {"stages": {"train": {"resources": {"limits": limits}}}}}
    settings = Settings(scratch={"work": "100Gi", "tmp": "1Gi", "shm": "2Gi"})
    sizes = {
        stage: {v["name"]: v["emptyDir"]["sizeLimit"] for v in _volumes(rendered(spec, stage, settings)) if "emptyDir" in v}
        for stage in ("train", "curate")
    }
    assert sizes == {"train": {"work": "2Ti", "tmp": "1Gi", "shm": "2Gi"}, "curate": {"work": "100Gi", "tmp": "1Gi"}}


def _volumes(rendered: dict[str, Any]) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = rendered["spec"]["template"]["spec"]["volumes"]
    return found


def test_only_traces_of_an_endpoint_are_shared_out() -> None:
    shared = {stage for stage in ("preflight", "traces", "train") if "completions" in rendered_for(ENDPOINT_SPEC, stage)["spec"]}
    assert shared == {"traces"}
    assert "completions" not in rendered_for(SPEC, "traces")["spec"]


def rendered_for(spec: dict[str, Any], stage: str) -> dict[str, Any]:
    """With a hash for every stage."""
    subject, plan = job(spec), make_plan("tiny", spec, INSTALLED)
    assert plan.spec is not None, plan.problems
    planned = next(s for s in plan.stages if s.name == stage)
    return stage_job(subject, plan, plan.spec, planned, "trainer:1", {stage: "e5" * 32}, 1)


def test_config_map_freezes_identity_image_and_spec() -> None:
    spec = SPEC | {"suspend": True, "backoffLimit": 9}
    plan = make_plan("tiny", spec, SETTINGS)
    assert plan.spec is not None
    body = config_map(job(spec), plan, plan.spec)
    assert_golden("config-map", body)
    frozen = FrozenJob.model_validate_json(body["data"]["job.json"])
    assert (frozen.trainer_image, frozen.uid, frozen.spec.suspend, frozen.spec.backoff_limit) == ("trainer:1", "uid-1", False, 2)


def test_the_same_occasion_has_the_same_event() -> None:
    first = event(job(), "Normal", "StageStarted", "created Job x", "train/1", NOW)
    assert_golden("event", first)
    assert event(job(), "Normal", "StageStarted", "other words", "train/1", NOW)["metadata"] == first["metadata"]
    assert event(job(), "Normal", "StageStarted", "created Job x", "train/2", NOW)["metadata"] != first["metadata"]


@pytest.mark.parametrize("stage", ["preflight", "traces", "curate", "train", "evaluate", "publish"])
def test_every_pod_meets_pod_security_restricted_and_has_no_api_token(stage: str) -> None:
    plan = make_plan("tiny", FULL, INSTALLED)
    assert plan.spec is not None
    planned = next(s for s in plan.stages if s.name == stage)
    spec = stage_job(job(FULL), plan, plan.spec, planned, "i", {stage: "e5" * 32}, 1)["spec"]["template"]["spec"]
    (container,) = spec["containers"]
    assert spec["automountServiceAccountToken"] is False
    assert spec["securityContext"]["runAsNonRoot"] is True
    assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert {kind for volume in spec["volumes"] for kind in volume} <= {
        "name",
        "configMap",
        "emptyDir",
        "projected",
        "persistentVolumeClaim",
    }


def assert_golden(name: str, body: dict[str, Any]) -> None:
    path = GOLDEN / f"{name}.yaml"
    if os.environ.get("GOLDEN") == "write":
        path.write_text(yaml.safe_dump(json.loads(json.dumps(body)), sort_keys=False, width=120))
    assert body == yaml.safe_load(path.read_text())

"""A manifest becomes a job of this machine: buckets are folders, Secrets are not asked for, mistakes are named."""

from pathlib import Path

import pytest

from distillery.local.load import BadManifest, load_job

MANIFEST = """
apiVersion: distillery.dev/v1alpha1
kind: DistillationJob
metadata: {name: small}
spec:
  teacher: {model: {uri: "s3://examples/teacher", credentialsSecretRef: {name: s3}}}
  student: {model: {uri: "hf://org/student@main"}}
  data: {train: {uri: "pvc://rows/train.jsonl"}}
  output: {uri: "s3://models/small", credentialsSecretRef: {name: s3}}
"""


def write(folder: Path, text: str) -> Path:
    """The manifest in a file."""
    path = folder / "job.yaml"
    path.write_text(text)
    return path


def test_buckets_and_claims_are_folders_inputs_are_looked_for_in_both_places(tmp_path: Path) -> None:
    """Inputs below root if they are there, else below the store; output below the store; the hub stays the hub."""
    (tmp_path / "root/examples/teacher").mkdir(parents=True)
    job = load_job(write(tmp_path, MANIFEST), tmp_path / "root", tmp_path / "store")
    assert job.spec.teacher.model
    assert job.spec.teacher.model.uri == f"file://{tmp_path}/root/examples/teacher"
    assert job.spec.teacher.model.credentials_secret_ref is None
    assert job.spec.data.train
    assert job.spec.data.train.uri == f"file://{tmp_path}/store/rows/train.jsonl"
    assert job.spec.output.uri == f"file://{tmp_path}/store/models/small"
    assert job.spec.student.model
    assert job.spec.student.model.uri == "hf://org/student@main"


def test_the_same_file_is_the_same_job_and_an_edit_is_another(tmp_path: Path) -> None:
    """So that running again resumes, and an edit does not mix with what was there."""
    path = write(tmp_path, MANIFEST)
    first = load_job(path, tmp_path, tmp_path)
    assert load_job(path, tmp_path, tmp_path).uid == first.uid
    assert load_job(write(tmp_path, MANIFEST.replace("small}", "other}")), tmp_path, tmp_path).uid != first.uid


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (("student:", "pupil:"), "spec.student"),
        (("v1alpha1", "v1"), "write distillery.dev/v1alpha1"),
        (("kind: DistillationJob", "kind: Job"), "exactly one"),
        (("{name: small}", "{name: Small_}"), "metadata.name"),
        (("spec:", "spec: [}"), "job.yaml line 5 column 8: not YAML: "),
        (("{name: small}", "{name: 2026-13-45}"), "not YAML: month must be in 1..12"),
        (("{name: small}", "{name: 5}"), "metadata.name: is 5, which is no text; put it in quotes"),
        (("{name: small}", "{name: small, namespace: 5}"), "metadata.namespace: is 5, which is no text"),
        (("{name: small}", "[small]"), "metadata.name: is missing; add it"),
        (("metadata: {name: small}", ""), "metadata.name: is missing; add it"),
        (("spec:", "spec: null\nold:"), "spec: is null; it must be an object"),
        (("small", "\x07"), "not YAML: "),
    ],
)
def test_mistakes_name_file_and_field(tmp_path: Path, change: tuple[str, str], expected: str) -> None:
    """What a person has to look at stands in the message."""
    path = write(tmp_path, MANIFEST.replace(*change))
    with pytest.raises(BadManifest) as refused:
        load_job(path, tmp_path, tmp_path)
    assert str(path) in str(refused.value)
    assert expected in str(refused.value)


@pytest.mark.parametrize(
    "change",
    [
        ('"pvc://rows/train.jsonl"', "3"),
        ('uri: "pvc://rows', 'split: [a], uri: "pvc://rows'),
        ("data: {train:", "data: {evaluation: {}, train:"),
        ("{train: {uri", "{chatTemplate: own, train: {uri"),
        ('data: {train: {uri: "pvc://rows/train.jsonl"}}', "data: []"),
    ],
)
def test_one_fault_of_the_rows_is_one_sentence(tmp_path: Path, change: tuple[str, str]) -> None:
    """And none about spec.method, whose default was not made because of it."""
    assert change[0] in MANIFEST
    path = write(tmp_path, MANIFEST.replace(*change))
    with pytest.raises(BadManifest) as refused:
        load_job(path, tmp_path, tmp_path)
    told = str(refused.value).removeprefix(f"{path}: ")
    assert told.startswith("spec.data")
    assert "; spec" not in told
    assert "method" not in told


def test_bytes_that_are_no_text_are_told(tmp_path: Path) -> None:
    path = tmp_path / "job.yaml"
    path.write_bytes(b"\xff\xfea")
    with pytest.raises(BadManifest, match="byte 1 is not UTF-8; save the file as UTF-8"):
        load_job(path, tmp_path, tmp_path)


def test_missing_file_is_named(tmp_path: Path) -> None:
    """No traceback for a typing error."""
    with pytest.raises(BadManifest, match="No such file"):
        load_job(tmp_path / "none.yaml", tmp_path, tmp_path)

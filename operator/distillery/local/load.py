"""From a manifest file to a job whose URIs are folders of this machine."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import yaml
from pydantic import ValidationError

from distillery.api.base import API_VERSION
from distillery.api.budget import TeacherBudgetSpec
from distillery.api.digest import digest
from distillery.api.job import DistillationJobSpec, FrozenJob
from distillery.api.problems import problems, shown
from distillery.api.result import USER_MISTAKE


class BadManifest(Exception):
    """The manifest cannot be run; the text names file, field, value and remedy."""

    code = USER_MISTAKE


def load_job(path: Path, root: Path, store: Path) -> FrozenJob:
    """The job in the file at `path`, with s3:// and pvc:// mapped to folders.

    A bucket or claim is a folder of that name: an input is looked for below `root`, then below `store`; output goes below `store`.
    The uid is made from the content, so that running the same file again resumes. BadManifest where it cannot be run.
    """
    manifest = _manifest(path, "DistillationJob")
    name, namespace = manifest["metadata"]["name"], manifest["metadata"].get("namespace", "local")
    try:
        spec = DistillationJobSpec.model_validate(manifest.get("spec"))
    except ValidationError as error:
        raise BadManifest(f"{path}: " + "; ".join(problems(error, "spec"))) from error
    local = DistillationJobSpec.model_validate(_mapped(spec.wire(), root.resolve(), store.resolve()))
    uid = digest({"namespace": namespace, "name": name, "spec": spec.wire()})[:36]
    try:
        return FrozenJob(namespace=namespace, name=name, uid=uid, spec=local)
    except ValidationError as error:
        raise BadManifest(f"{path}: " + "; ".join(problems(error, "metadata"))) from error


def load_budget(path: Path, name: str) -> TeacherBudgetSpec:
    """The TeacherBudget `name` in the file at `path`. BadManifest where it is another one, or not valid."""
    manifest = _manifest(path, "TeacherBudget")
    found = manifest["metadata"]["name"]
    if found != name:
        raise BadManifest(f'{path}: holds TeacherBudget "{found}", but the job\'s spec.budgetRef names "{name}"; give the file of that one')
    try:
        return TeacherBudgetSpec.model_validate(manifest.get("spec"))
    except ValidationError as error:
        raise BadManifest(f"{path}: " + "; ".join(problems(error, "spec"))) from error


def _manifest(path: Path, kind: str) -> dict[str, Any]:
    try:
        documents = [d for d in yaml.safe_load_all(path.read_text()) if isinstance(d, dict) and d.get("kind") == kind]
    except OSError as error:
        raise BadManifest(f"{path}: {error.strerror}; give the path of a {kind} manifest") from error
    except UnicodeDecodeError as error:
        raise BadManifest(f"{path}: byte {error.start + 1} is not UTF-8; save the file as UTF-8") from error
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        place = f" line {mark.line + 1} column {mark.column + 1}" if mark else ""
        raise BadManifest(f"{path}{place}: not YAML: {error.problem}; correct it") from error
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        # a date that is none, a character that YAML does not know, brackets without end
        raise BadManifest(f"{path}: not YAML: {' '.join(str(error).split())[:200]}; correct it, or put texts in quotes") from error
    if len(documents) != 1:
        raise BadManifest(f"{path}: holds {len(documents)} {kind}s; give a file with exactly one")
    found = documents[0]
    if found.get("apiVersion") != API_VERSION:
        raise BadManifest(f"{path}: apiVersion is {shown(found.get('apiVersion'))}; write {API_VERSION}")
    metadata = found.get("metadata")
    if not isinstance(metadata, dict) or not metadata.get("name"):
        raise BadManifest(f"{path}: metadata.name: is missing; add it")
    for field in ("name", "namespace"):
        if not isinstance(metadata.get(field, ""), str):
            raise BadManifest(f"{path}: metadata.{field}: is {shown(metadata[field])}, which is no text; put it in quotes")
    return found


def _mapped(value: Any, root: Path, store: Path, key: str = "") -> Any:
    """A copy of the spec in which every uri is a file:// URI (hf:// stays) and no Secret is asked for."""
    if isinstance(value, dict):
        return {
            k: _mapped(v, root, store, "output" if k == "output" else key or "") for k, v in value.items() if k != "credentialsSecretRef"
        }
    if isinstance(value, list):
        return [_mapped(v, root, store, key) for v in value]
    if isinstance(value, str) and value.startswith(("s3://", "pvc://")):
        parts = urlsplit(value)
        below = Path(parts.netloc) / parts.path.lstrip("/")
        return f"file://{store / below}" if key == "output" or not (root / below).exists() else f"file://{root / below}"
    if isinstance(value, str) and value.startswith("file://") and not value.startswith("file:///"):
        return f"file://{(root / value.removeprefix('file://')).resolve()}"
    return value

"""Writes what is derived: of the models the CRDs, their copy in the chart, the API reference; of the package the chart's catalogue of terms.

`make crds` runs it; a test compares.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import yaml

from .crd import distillation_job_crd, teacher_budget_crd
from .reference import reference

_HEADER = "# Generated from operator/distillery/api by `make crds`.\n"
_TERMS = Path(__file__).parents[1] / "terms" / "terms.yaml"
_COPIED = "# Copied from operator/distillery/terms/terms.yaml by `make crds`.\n"
_IN_CHART = """metadata:
  name: {name}
  labels:
    {{{{- include "distillery.labels" . | nindent 4 }}}}
  annotations:
    helm.sh/resource-policy: keep           # helm uninstall would delete every object with the CRD
"""


def files() -> dict[str, str]:
    """Path in the repository to text."""
    crds = [distillation_job_crd(), teacher_budget_crd()]
    found = {"docs/api.md": reference(crds), "helm/distillery/files/terms.yaml": _COPIED + _TERMS.read_text()}
    for crd in crds:
        name, text = crd["spec"]["names"]["plural"], _yaml(crd)
        found[f"crds/{name}.yaml"] = _HEADER + text
        found[f"helm/distillery/templates/crds/{name}.yaml"] = _HEADER + _template(crd["metadata"]["name"], text)
    return found


def _yaml(crd: dict[str, Any]) -> str:
    class Plain(yaml.SafeDumper):
        """Writes a value that stands twice twice: no anchors."""

        def ignore_aliases(self, data: Any) -> bool:
            return True

    return yaml.dump(crd, Dumper=Plain, sort_keys=False, width=140)


def _template(name: str, text: str) -> str:
    if "{{" in text:
        raise ValueError(f"CRD {name} holds braces that Helm would take for a template")
    plain = f"metadata:\n  name: {name}\n"
    if text.count(plain) != 1:
        raise ValueError(f"CRD {name} does not begin as expected")
    return "{{- if .Values.crds.enabled }}\n" + text.replace(plain, _IN_CHART.format(name=name)) + "{{- end }}\n"


def main() -> None:
    """Write every file below the folder given (default: the current one, the root of the repository)."""
    root = Path(sys.argv[1] if len(sys.argv) > 1 else ".")
    for path, text in files().items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(text)


if __name__ == "__main__":
    main()

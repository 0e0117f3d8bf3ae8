"""The wait that docs/gitops.md and README show ends on success and on failure, and says which."""

import json
import re
import shlex
import subprocess
from pathlib import Path

import pytest
from tests.conftest import Cluster

pytestmark = pytest.mark.cluster
ROOT = Path(__file__).parents[2]
NOW = "2026-01-01T00:00:00Z"


def documented(page: str) -> list[str]:
    """The two commands of a page, for dj/NAME."""
    text = re.sub(r"dj/first|dj first", lambda m: m[0][:3] + "NAME", (ROOT / page).read_text())
    wait = next(line for line in text.splitlines() if line.startswith("kubectl wait --for=jsonpath"))
    read = next(found for found in re.findall(r"kubectl get dj NAME -o jsonpath='[^'\n]*'", text) if "Succeeded" in found)
    return [wait, read]


@pytest.mark.parametrize("page", ["docs/gitops.md", "README.md"])
@pytest.mark.parametrize("succeeded", ["True", "False"])
def test_the_wait_ends_either_way(page: str, succeeded: str, cluster: Cluster, namespace: str) -> None:
    manifest = (ROOT / "examples/minimal.yaml").read_text().replace("spec:\n", "spec:\n  suspend: true\n", 1)
    cluster.kubectl("-n", namespace, "apply", "-f", "-", stdin=manifest)
    wait, read = (shlex.split(line.replace("NAME", "minimal")) for line in documented(page))
    base = ["kubectl", f"--kubeconfig={cluster.kubeconfig}", "-n", namespace]
    waiting = subprocess.Popen([*base, *wait[1:]], stdout=subprocess.PIPE, text=True)
    condition = {"type": "Succeeded", "status": succeeded, "reason": "Test", "message": "", "lastTransitionTime": NOW}
    status = json.dumps({"status": {"completionTime": NOW, "conditions": [condition]}})
    cluster.kubectl("-n", namespace, "patch", "dj", "minimal", "--subresource=status", "--type=merge", "-p", status)
    said, _ = waiting.communicate(timeout=60)
    assert waiting.returncode == 0
    assert "condition met" in said
    assert subprocess.run([*base, *read[1:]], capture_output=True, text=True, check=True).stdout == succeeded

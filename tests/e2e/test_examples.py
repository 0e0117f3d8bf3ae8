"""The smallest example as it stands, on the test's own teacher and rows: what nobody sets must be a sound default."""

from pathlib import Path
from typing import Any

import pytest
import yaml
from tests.e2e.conftest import Team

pytestmark = pytest.mark.cluster
MINIMAL = Path(__file__).parents[2] / "examples/minimal.yaml"


def at_home(manifest: dict[str, Any], team: Team) -> dict[str, Any]:
    """The manifest with the URIs and the Secret of the test, and as many layers as its small teacher can give."""
    spec, secret = manifest["spec"], {"name": "object-store"}
    spec["teacher"]["model"] = {"uri": f"{team.inputs}/teacher", "credentialsSecretRef": secret}
    spec["student"]["fromTeacher"]["numHiddenLayers"] = 2
    spec["data"]["train"] = {**spec["data"]["train"], "uri": f"{team.inputs}/train.jsonl", "credentialsSecretRef": secret}
    spec["output"] = {"uri": team.output, "credentialsSecretRef": secret}
    return manifest


def test_the_smallest_example_ends_with_a_model(team: Team) -> None:
    name = team.apply(at_home(yaml.safe_load(MINIMAL.read_text()), team))
    status = team.ended(name)["status"]
    assert status["modelURI"].startswith(f"{team.output}/{team.namespace}/{name}/")
    assert {c["type"]: c["status"] for c in status["conditions"]}["Published"] == "True"

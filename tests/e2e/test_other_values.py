"""With other values of the chart, for the time of a test: namespaces that are not watched (A10), an image that nobody has."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from tests.conftest import Cluster, ObjectStore
from tests.e2e.conftest import Team, make_team

pytestmark = [pytest.mark.cluster, pytest.mark.alone]
CHART = Path(__file__).parents[2] / "helm/distillery"


@contextmanager
def installed_with(cluster: Cluster, *settings: str) -> Iterator[None]:
    """The release with these values beside its own; afterwards as it was."""
    before = str(json.loads(cluster.helm("status", "distillery", "-o", "json"))["version"])
    try:
        cluster.helm("upgrade", "distillery", str(CHART), "--reuse-values", *settings, "--wait", "--timeout=3m")
        yield
    finally:
        cluster.helm("rollback", "distillery", before, "--wait", "--timeout=3m")


def test_a_namespace_that_is_not_watched_is_left_alone(
    cluster: Cluster, object_store: ObjectStore, inputs: str, team: Team, namespace: str
) -> None:
    """A job there is not observed and has no child while one of a watched namespace is; once its namespace is watched it is run."""
    cluster.kubectl("create", "namespace", f"{namespace}-b")
    other = make_team(cluster, f"{namespace}-b", object_store, inputs)
    try:
        with installed_with(cluster, f"--set=watchNamespaces={{{namespace}}}"):
            left = other.apply(other.job("left"))
            seen = team.apply(team.job("seen", suspend=True))
            team.wait(lambda: team.condition(seen, "Suspended").get("status") == "True", "the watched namespace's job to be seen", 90)
            assert other.get(left)["status"] == {"observedGeneration": -1, "activeSeconds": 0}
            assert (other.jobs(left), other.pods(left)) == ([], [])
            assert json.loads(other.kubectl("get", "events", "-o", "json"))["items"] == []
        other.wait(lambda: other.stage(left, "preflight").get("runs"), "the other namespace's job to begin", 90)
    finally:
        cluster.kubectl("delete", "namespace", other.namespace, "--wait=false")


def test_an_image_that_cannot_be_pulled_is_named(cluster: Cluster, team: Team) -> None:
    """Within a minute, with what helps."""
    image = cluster.kubectl(
        "-n", "distillery-system", "get", "deployment", "distillery-operator", "-o", "jsonpath={.spec.template.spec.containers[0].image}"
    )
    missing = f"{image.rsplit(':', 1)[0]}:nobody-made-this"
    with installed_with(cluster, f"--set-string=image.trainer={missing}"):
        name = team.apply(team.job("no-image"))
        team.wait(lambda: team.stage(name, "preflight").get("reason") == "ImageUnavailable", "the image to be named", 60)
        assert missing in team.stage(name, "preflight")["message"]
        assert "spec.scheduling.imagePullSecrets" in team.stage(name, "preflight")["message"]
        assert team.condition(name, "Succeeded")["status"] == "Unknown"

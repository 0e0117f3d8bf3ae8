"""Teams side by side do not see each other (A10)."""

import pytest
from tests.conftest import Cluster, ObjectStore
from tests.e2e.conftest import Team, make_team

pytestmark = pytest.mark.cluster


def test_two_teams_with_two_jobs_each(cluster: Cluster, object_store: ObjectStore, inputs: str, team: Team, namespace: str) -> None:
    """Four jobs at once, two of them namesakes: each ends with its own result in its own folder."""
    other_namespace = f"{namespace}-b"
    cluster.kubectl("create", "namespace", other_namespace)
    cluster.kubectl("label", "namespace", other_namespace, "pod-security.kubernetes.io/enforce=restricted")
    other = make_team(cluster, other_namespace, object_store, inputs)
    training = {"maxSteps": 5, "globalBatchSize": 8, "maxSequenceLength": 256}
    try:
        pairs = [(t, t.apply(t.job(name, training=training))) for t in (team, other) for name in ("alpha", "beta")]
        finished = [t.ended(name, seconds=900) for t, name in pairs]
        uris = {job["status"]["modelURI"] for job in finished}
        assert len(uris) == len(pairs)
        for (t, name), job in zip(pairs, finished, strict=True):
            assert job["status"]["modelURI"].startswith(f"{t.output}/{t.namespace}/{name}/")
            assert {j["metadata"]["ownerReferences"][0]["uid"] for j in t.jobs(name)} == {job["metadata"]["uid"]}
    finally:
        cluster.kubectl("delete", "namespace", other_namespace, "--wait=false")

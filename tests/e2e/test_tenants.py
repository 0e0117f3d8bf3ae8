"""Teams side by side do not see each other (A10)."""

import json
import uuid

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


def test_progress_endpoint_refuses_strangers(cluster: Cluster, team: Team) -> None:
    """No token, a token of another audience, and a token without a pod are refused."""
    name = f"curl-{uuid.uuid4().hex[:6]}"
    gateway = "http://distillery-gateway.distillery-system/v1/progress"
    body = json.dumps({"stage": "train", "percentage": 1})
    statuses = []
    for header in ("", token(team, "https://kubernetes.default.svc"), token(team, "distillery-gateway")):
        statuses.append(post_from_pod(cluster, team, f"{name}-{len(statuses)}", gateway, body, header))
    assert statuses == ["401", "401", "403"]


def token(team: Team, audience: str) -> str:
    """A ServiceAccount token that belongs to no pod."""
    return team.kubectl("create", "token", "default", f"--audience={audience}").strip()


def post_from_pod(cluster: Cluster, team: Team, name: str, url: str, body: str, bearer: str) -> str:
    """The HTTP status that a POST from a pod of the team gets."""
    image = cluster.kubectl(
        "-n", "distillery-system", "get", "deployment", "distillery-operator", "-o", "jsonpath={.spec.template.spec.containers[0].image}"
    )
    code = (
        "import sys, urllib.request, urllib.error\n"
        "request = urllib.request.Request(sys.argv[1], sys.argv[2].encode(), {'Content-Type': 'application/json'})\n"
        "sys.argv[3] and request.add_header('Authorization', 'Bearer ' + sys.argv[3])\n"
        "try: print(urllib.request.urlopen(request, timeout=10).status)\n"
        "except urllib.error.HTTPError as error: print(error.code)\n"
    )
    container = {
        "name": "post",
        "image": image,
        "command": ["python3", "-c", code, url, body, bearer],
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "runAsNonRoot": True,
            "runAsUser": 65532,
            "capabilities": {"drop": ["ALL"]},
            "seccompProfile": {"type": "RuntimeDefault"},
        },
    }
    spec = {"restartPolicy": "Never", "automountServiceAccountToken": False, "containers": [container]}
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": spec}
    team.kubectl("apply", "-f", "-", stdin=json.dumps(pod))
    team.kubectl("wait", "--for=jsonpath={.status.phase}=Succeeded", f"pod/{name}", "--timeout=90s")
    return team.kubectl("logs", name).strip()

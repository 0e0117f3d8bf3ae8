"""The chart in the cluster, as `make install` left it: both programs answer, the pods are restricted, the rights are as they should be."""

import json
import subprocess

import pytest
from tests.conftest import Cluster

pytestmark = [pytest.mark.cluster, pytest.mark.alone]
NAMESPACE, RELEASE = "distillery-system", "distillery"
OPERATOR = f"system:serviceaccount:{NAMESPACE}:distillery-operator"
GATEWAY = f"system:serviceaccount:{NAMESPACE}:distillery-gateway"


def allowed(cluster: Cluster, account: str, verb: str, resource: str, *more: str) -> bool:
    """The API server's own answer for an account."""
    asked = ["auth", "can-i", verb, resource, f"--as={account}", "--namespace=default", *more]
    done = subprocess.run(["kubectl", f"--kubeconfig={cluster.kubeconfig}", *asked], capture_output=True, text=True, timeout=60)
    answer = done.stdout.strip()
    assert answer.split(" ")[0] in ("yes", "no"), done.stderr
    return answer == "yes"


def test_helm_test_passes(cluster: Cluster) -> None:
    assert cluster.helm("test", RELEASE, "--logs", "--timeout=2m").count("/readyz 200 ok") == 2


def test_its_pods_would_be_admitted_by_pod_security_restricted(cluster: Cluster) -> None:
    label = ("label", "namespace", NAMESPACE, "pod-security.kubernetes.io/enforce=restricted", "--overwrite", "--dry-run=server")
    done = subprocess.run(["kubectl", f"--kubeconfig={cluster.kubeconfig}", *label], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0
    assert "violate" not in done.stderr


@pytest.mark.parametrize("account", [OPERATOR, GATEWAY])
@pytest.mark.parametrize("verb", ["get", "list", "watch", "create", "update", "patch", "delete"])
def test_nobody_of_us_touches_secrets_or_makes_pods(cluster: Cluster, account: str, verb: str) -> None:
    assert not allowed(cluster, account, verb, "secrets")
    if verb not in ("get", "list", "watch"):
        assert not allowed(cluster, account, verb, "pods")
        assert not allowed(cluster, account, verb, "clusterroles.rbac.authorization.k8s.io")


def test_the_operator_never_writes_a_spec(cluster: Cluster) -> None:
    assert allowed(cluster, OPERATOR, "patch", "distillationjobs", "--subresource=status")
    for verb in ("patch", "update", "create"):
        assert not allowed(cluster, OPERATOR, verb, "distillationjobs")


def test_the_built_in_roles_took_up_ours(cluster: Cluster) -> None:
    def verbs(role: str) -> set[str]:
        rules = json.loads(cluster.kubectl("get", "clusterrole", role, "-o", "json"))["rules"]
        return {verb for rule in rules if "distillationjobs" in rule["resources"] for verb in rule["verbs"]}

    assert verbs("view") == {"get", "list", "watch"}
    assert verbs("edit") == verbs("admin") == {"get", "list", "watch", "create", "update", "patch", "delete", "deletecollection"}


def test_one_replica_leads(cluster: Cluster) -> None:
    holder = cluster.kubectl("-n", NAMESPACE, "get", "lease", "distillery-operator", "-o", "jsonpath={.spec.holderIdentity}")
    pods = cluster.kubectl("-n", NAMESPACE, "get", "pods", "-l", "app.kubernetes.io/component=operator", "-o", "name")
    assert f"pod/{holder}" in pods.split()

"""A9: the progress endpoint and real tokens. The gateway is a process that holds the rights of its chart and no more."""

import json
import os
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml
from tests.conftest import Cluster
from tests.e2e.waiting import eventually
from tests.integration.replica import apply_suspended_job, free_port

pytestmark = pytest.mark.cluster
AUDIENCE = "distillery-gateway"
CHART = Path(__file__).parents[2] / "helm/distillery"
REPORT = {"stage": "train", "percentage": 40}
RESTRICTED = {
    "automountServiceAccountToken": False,
    "securityContext": {"runAsNonRoot": True, "runAsUser": 65532, "seccompProfile": {"type": "RuntimeDefault"}},
    "containers": [
        {
            "name": "never-pulled",
            "image": "example/none:1",
            "imagePullPolicy": "Never",
            "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
        }
    ],
}


@dataclass
class Tenant:
    """Objects and tokens in the test's namespace."""

    cluster: Cluster
    namespace: str

    def kubectl(self, *arguments: str, stdin: str | None = None) -> str:
        """kubectl in the namespace."""
        return self.cluster.kubectl("-n", self.namespace, *arguments, stdin=stdin)

    def token(self, account: str = "default", audience: str | None = AUDIENCE, pod: str | None = None) -> str:
        """A token as the kubelet would mount it, were `pod` running."""
        made_for = [f"--audience={audience}"] if audience else []
        bound = ["--bound-object-kind=Pod", f"--bound-object-name={pod}"] if pod else []
        return self.kubectl("create", "token", account, *made_for, *bound).strip()

    def uid(self, job: str) -> str:
        """The uid of a DistillationJob."""
        return self.kubectl("get", "dj", job, "-o", "jsonpath={.metadata.uid}")

    def stage_pod(self, job: str, stage: str = "train") -> str:
        """A pod whose chain of owners ends at a new DistillationJob; no operator touches it, for it lacks their labels."""
        apply_suspended_job(self.cluster, self.namespace, job)
        owner = {"apiVersion": "distillery.dev/v1alpha1", "kind": "DistillationJob", "name": job, "uid": self.uid(job), "controller": True}
        name, labels = f"{job}-{stage}", {"distillery.dev/stage": stage}
        body = {
            "apiVersion": "batch/v1",
            "kind": "Job",
            "metadata": {"name": name, "labels": labels, "ownerReferences": [owner]},
            "spec": {"template": {"spec": {**RESTRICTED, "restartPolicy": "Never"}}},
        }
        self.kubectl("create", "-f", "-", stdin=json.dumps(body))
        found = ("get", "pods", "-l", f"batch.kubernetes.io/job-name={name}", "-o", "jsonpath={.items[*].metadata.name}")
        return str(eventually(lambda: self.kubectl(*found), f"a pod of {name}", 30))


Call = Callable[..., tuple[int, Any]]


@pytest.fixture
def tenant(cluster: Cluster, namespace: str) -> Tenant:
    return Tenant(cluster, namespace)


@pytest.fixture
def gateway_kubeconfig(tenant: Tenant, tmp_path: Path) -> Iterator[Path]:
    """A kubeconfig of a ServiceAccount with the rights that the chart gives the gateway."""
    release = tenant.namespace
    images = "image.operator=example/operator:1,image.trainer=example/trainer:1"
    command = ["helm", "template", release, str(CHART), "--namespace", release, "--set", images]
    command += ["-s", "templates/rbac-gateway.yaml", "-s", "templates/serviceaccounts.yaml"]
    rendered = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    account = next(
        body["metadata"]["name"]
        for body in yaml.safe_load_all(rendered)
        if body and body["kind"] == "ServiceAccount" and body["metadata"]["name"].endswith("gateway")
    )
    tenant.kubectl("apply", "-f", "-", stdin=rendered)
    config = yaml.safe_load(tenant.kubectl("config", "view", "--raw", "--minify", "--flatten"))
    config["users"][0]["user"] = {"token": tenant.token(account, audience=None)}
    (tmp_path / "kubeconfig").write_text(yaml.safe_dump(config))
    yield tmp_path / "kubeconfig"
    tenant.kubectl("delete", "--wait=false", "-f", "-", stdin=rendered)


@pytest.fixture
def call(tenant: Tenant, gateway_kubeconfig: Path, tmp_path: Path) -> Iterator[Call]:
    """POST a report, or GET with a query; gives the status, and the JSON or the reason of the refusal."""
    tenant.kubectl("create", "serviceaccount", "reader")
    port, health = free_port(), free_port()
    flags = [f"--operator-service-account={tenant.namespace}/reader", f"--port={port}", f"--health-port={health}"]
    with (tmp_path / "gateway.log").open("wb") as log:
        environment = {**os.environ, "KUBECONFIG": str(gateway_kubeconfig)}
        process = subprocess.Popen([sys.executable, "-m", "distillery.gateway", *flags], env=environment, stderr=log)

    def ready() -> bool:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{health}/readyz", timeout=2) as response:
                return bool(response.status == 200)
        except OSError:
            return False

    def call(token: str | None, report: dict[str, Any] | None = None, **query: str) -> tuple[int, Any]:
        parameters = "&".join(f"{name}={value}" for name, value in query.items())
        body = json.dumps(report).encode() if report else None
        request = urllib.request.Request(f"http://127.0.0.1:{port}/v1/progress?{parameters}", data=body)
        if token:
            request.add_header("Authorization", f"Bearer {token}")
        try:
            with urllib.request.urlopen(request, timeout=10) as response:
                text = response.read()
                return response.status, json.loads(text) if text else None
        except urllib.error.HTTPError as error:
            return error.code, json.load(error)["error"]["reason"]

    eventually(ready, "the gateway to be ready", 30, (tmp_path / "gateway.log").read_text)
    yield call
    process.kill()
    process.wait()


def test_a_pod_reports_for_its_own_stage_and_job_alone(tenant: Tenant, call: Call) -> None:
    ours, other = tenant.stage_pod("ours"), tenant.stage_pod("other")
    reader = tenant.token("reader")

    def progress(job: str) -> Any:
        return call(reader, namespace=tenant.namespace, job=job, uid=tenant.uid(job))

    assert call(tenant.token(pod=ours), REPORT) == (204, None)
    assert progress("ours") == (200, {"train": {**REPORT, "hash": "", "metrics": []}})
    assert progress("other") == (200, {}), "a report is filed under the job that its token proves"
    assert call(tenant.token(pod=other), {**REPORT, "percentage": 99}) == (204, None)
    assert progress("ours")[1]["train"]["percentage"] == 40
    assert call(tenant.token(pod=ours), {**REPORT, "stage": "publish"}) == (403, "AnotherStage")


def test_what_does_not_prove_a_stage_pod_is_refused(tenant: Tenant, call: Call) -> None:
    pod = tenant.stage_pod("ours")
    bare = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "bare"}, "spec": RESTRICTED}
    tenant.kubectl("create", "-f", "-", stdin=json.dumps(bare))
    refused = {
        "no token": call(None, REPORT),
        "no token at all": call("nonsense", REPORT),
        "another audience": call(tenant.token(pod=pod, audience=None), REPORT),
        "without a pod": call(tenant.token(), REPORT),
        "a pod of nobody's job": call(tenant.token(pod="bare"), REPORT),
        "reading by a stage pod": call(tenant.token(pod=pod), namespace=tenant.namespace, job="ours", uid="u"),
    }
    assert refused == {
        "no token": (401, "NoToken"),
        "no token at all": (401, "TokenInvalid"),
        "another audience": (401, "TokenInvalid"),
        "without a pod": (403, "NoPod"),
        "a pod of nobody's job": (403, "NotAStagePod"),
        "reading by a stage pod": (403, "NotTheOperator"),
    }


def test_the_token_of_a_deleted_pod_proves_nothing(tenant: Tenant, call: Call) -> None:
    token = tenant.token(pod=tenant.stage_pod("ours"))
    tenant.kubectl("delete", "job", "ours-train", "--cascade=foreground", "--wait=true", "--timeout=60s")
    assert call(token, REPORT) == (401, "TokenInvalid")

"""The chart, rendered: who may do what (R18), how the pods are locked down, what the values refuse."""

import json
import shutil
import subprocess
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml

from distillery.gateway.__main__ import options as gateway_options
from distillery.options import options as operator_options

ROOT = Path(__file__).parents[2]
CHART = ROOT / "helm/distillery"
ALL = ("--values", str(CHART / "ci/all-values.yaml"))
IMAGES = ("--set", "image.operator=example/operator:1,image.trainer=example/trainer:1")
Body = dict[str, Any]


def helm(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run helm; without it the tests fail, for a chart that nobody rendered is not tested."""
    program = shutil.which("helm")
    assert program, "helm is not on PATH: `make cluster-up` builds it, or bash tests/kind/programs/build helm"
    return subprocess.run([program, *arguments], capture_output=True, text=True, timeout=60)


@cache
def render(*arguments: str) -> list[Body]:
    """The objects of a release `distillery` in namespace `system`."""
    done = helm("template", "distillery", str(CHART), "--namespace", "system", *arguments)
    assert done.returncode == 0, done.stderr
    return [body for body in yaml.safe_load_all(done.stdout) if body]


def of_kind(kind: str, *arguments: str) -> dict[str, Body]:
    """Name (with its namespace, if it has one other than the release's) to object."""
    found = [body for body in render(*arguments) if body["kind"] == kind]
    return {"/".join(filter(None, (b["metadata"].get("namespace"), b["metadata"]["name"]))).removeprefix("system/"): b for b in found}


def test_the_config_map_for_argo_cd_holds_the_tested_files() -> None:
    (found,) = (body for name, body in of_kind("ConfigMap", *ALL, *IMAGES).items() if name.endswith("argocd-health"))
    keys = {"health.distillery.dev_DistillationJob": "argocd-health.lua", "health.distillery.dev_TeacherBudget": "argocd-health-budget.lua",
            "actions.distillery.dev_DistillationJob": "argocd-actions.yaml"}  # fmt: skip
    files = {f"resource.customizations.{key}": (CHART / "files" / name).read_text().strip() for key, name in keys.items()}
    assert {key: text.strip() for key, text in found["data"].items()} == files


READ = {"get", "list", "watch"}
OPERATOR = {
    ("distillery.dev", "distillationjobs"): READ | {"delete"},
    ("distillery.dev", "distillationjobs/status"): {"patch"},
    ("distillery.dev", "teacherbudgets"): READ,
    ("distillery.dev", "teacherbudgets/status"): {"patch"},
    ("batch", "jobs"): READ | {"create", "delete"},
    ("", "pods"): {"list"},
    ("", "configmaps"): {"get", "create"},
    ("", "events"): {"list"},
    ("events.k8s.io", "events"): {"create"},
}
GATEWAY = {
    ("", "pods"): {"get"},
    ("batch", "jobs"): {"get"},
    ("distillery.dev", "distillationjobs"): {"get"},
    ("distillery.dev", "teacherbudgets"): {"get"},
}
REVIEW = {("authentication.k8s.io", "tokenreviews"): {"create"}}
EDIT = {("distillery.dev", "distillationjobs"): READ | {"create", "update", "patch", "delete", "deletecollection"}}
VIEW = {("distillery.dev", kind + part): READ for kind in ("distillationjobs", "teacherbudgets") for part in ("", "/status")}


#: The gateway alone has a claim (its ledger), and Secrets (keys, a database's password).
VOLUMES = {"name", "emptyDir", "projected", "configMap", "persistentVolumeClaim", "secret"}


def granted(role: Body) -> dict[tuple[str, str], set[str]]:
    """API group and resource to verbs."""
    verbs: dict[tuple[str, str], set[str]] = {}
    for rule in role["rules"]:
        for group in rule["apiGroups"]:
            for resource in rule["resources"]:
                verbs.setdefault((group, resource), set()).update(rule["verbs"])
    return verbs


def test_cluster_wide_rights_are_these_and_no_others() -> None:
    found = {name: granted(role) for name, role in of_kind("ClusterRole", *IMAGES).items()}
    assert found == {
        "distillery-operator": OPERATOR,
        "distillery-gateway": REVIEW | GATEWAY,
        "distillery-edit": EDIT,
        "distillery-view": VIEW,
    }


def test_with_watched_namespaces_rights_end_there() -> None:
    roles = {name: granted(role) for name, role in of_kind("ClusterRole", *ALL).items()}
    assert roles == {"distillery-gateway": REVIEW, "distillery-edit": EDIT, "distillery-view": VIEW}
    assert "distillery-operator" not in of_kind("ClusterRoleBinding", *ALL)
    namespaced = of_kind("Role", *ALL)
    for namespace in ("team-a", "team-b"):
        assert granted(namespaced[f"{namespace}/distillery-operator"]) == OPERATOR
        assert granted(namespaced[f"{namespace}/distillery-gateway"]) == GATEWAY


def test_the_lease_is_bound_by_name() -> None:
    rules = of_kind("Role", *IMAGES)["distillery-operator-lease"]["rules"]
    assert [(r["verbs"], r.get("resourceNames")) for r in rules] == [(["create"], None), (["get", "update"], ["distillery-operator"])]


@pytest.mark.parametrize("values", [IMAGES, ALL])
def test_no_secrets_no_wildcards_no_escalation(values: tuple[str, ...]) -> None:
    for kind in ("Role", "ClusterRole"):
        for name, role in of_kind(kind, *values).items():
            words = json.dumps(role["rules"])
            assert not [word for word in ("secrets", "*", "impersonate", "escalate", "bind") if f'"{word}"' in words], name


@pytest.mark.parametrize("values", [IMAGES, ALL])
def test_bindings_join_each_account_to_its_own_role(values: tuple[str, ...]) -> None:
    accounts = set(of_kind("ServiceAccount", *values))
    for kind in ("RoleBinding", "ClusterRoleBinding"):
        for name, binding in of_kind(kind, *values).items():
            (subject,) = binding["subjects"]
            assert subject["namespace"] == "system"
            assert subject["name"] in accounts
            assert binding["roleRef"]["name"].startswith(subject["name"]), name


def pod_specs(values: tuple[str, ...]) -> dict[str, Body]:
    """Every pod that the chart makes, the test's included."""
    deployments = {name: body["spec"]["template"]["spec"] for name, body in of_kind("Deployment", *values).items()}
    scheduled = {name: body["spec"]["jobTemplate"]["spec"]["template"]["spec"] for name, body in of_kind("CronJob", *values).items()}
    return deployments | scheduled | {name: body["spec"] for name, body in of_kind("Pod", *values).items()}


@pytest.mark.parametrize("values", [IMAGES, ALL])
def test_every_pod_meets_pod_security_restricted(values: tuple[str, ...]) -> None:
    pods = pod_specs(values)
    backup = {"distillery-backup"} if values == ALL else set()
    assert set(pods) == {"distillery-operator", "distillery-gateway", "distillery-test-health"} | backup
    for name, pod in pods.items():
        assert pod["securityContext"]["runAsNonRoot"] is True, name
        assert pod["securityContext"]["runAsUser"] > 0, name
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}, name
        assert not {"hostNetwork", "hostPID", "hostIPC", "initContainers"} & set(pod), name
        assert {kind for volume in pod.get("volumes", ()) for kind in volume} <= VOLUMES, name
        for container in pod["containers"]:
            locked = {"allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True, "capabilities": {"drop": ["ALL"]}}
            assert container["securityContext"] == locked, name
            assert container["resources"]["requests"], name
            assert container["resources"]["limits"]["memory"], name


@pytest.mark.parametrize("values", [IMAGES, ALL])
def test_both_programs_understand_their_flags(values: tuple[str, ...]) -> None:
    pods = pod_specs(values)
    operator = operator_options([str(a) for a in pods["distillery-operator"]["containers"][0]["args"]])
    gateway = gateway_options([str(a) for a in pods["distillery-gateway"]["containers"][0]["args"]])
    assert operator.lease_name == "distillery-operator"
    assert gateway.operator_service_account == "system/distillery-operator"
    assert operator.gateway_url == "http://distillery-gateway.system"
    ports = {p["name"]: p["containerPort"] for p in pods["distillery-gateway"]["containers"][0]["ports"]}
    assert ports == {"api": gateway.port, "metrics": gateway.health_port}
    assert pods["distillery-operator"]["containers"][0]["ports"][0]["containerPort"] == operator.http_port
    mount = next(m for m in pods["distillery-operator"]["containers"][0]["volumeMounts"] if m["name"] == "gateway-token")
    assert str(operator.gateway_token_file.parent) == mount["mountPath"]


def test_values_reach_the_operator() -> None:
    given = operator_options([str(a) for a in pod_specs(ALL)["distillery-operator"]["containers"][0]["args"]])
    assert given.namespaces == "team-a,team-b"
    assert given.stage_env == ["HF_ENDPOINT=http://hub.example", "HTTPS_PROXY=http://proxy.example:3128"]
    assert given.trainer_image == "registry.example/distillery/trainer:1"


def test_selectors_find_their_pods_and_no_others() -> None:
    deployments = of_kind("Deployment", *ALL)
    for name, deployment in deployments.items():
        selectors = {
            "deployment": deployment["spec"]["selector"]["matchLabels"],
            "service": of_kind("Service", *ALL)[name]["spec"]["selector"],
            "policy": of_kind("NetworkPolicy", *ALL)[name]["spec"]["podSelector"]["matchLabels"],
        }
        for what, selector in selectors.items():
            hits = [n for n, d in deployments.items() if selector.items() <= d["spec"]["template"]["metadata"]["labels"].items()]
            assert hits == [name], what


def test_two_replicas_drain_one_by_one_and_the_gateway_is_one() -> None:
    deployments = of_kind("Deployment", *IMAGES)
    assert deployments["distillery-operator"]["spec"]["replicas"] == 2
    assert deployments["distillery-gateway"]["spec"]["replicas"] == 1
    assert of_kind("PodDisruptionBudget", *IMAGES)["distillery-operator"]["spec"]["maxUnavailable"] == 1


def test_crds_upgrade_with_the_chart_and_outlive_it() -> None:
    crds = of_kind("CustomResourceDefinition", *IMAGES)
    committed = {path.stem: yaml.safe_load(path.read_text()) for path in (ROOT / "crds").glob("*.yaml")}
    assert {crd["spec"]["names"]["plural"]: crd["spec"] for crd in crds.values()} == {n: c["spec"] for n, c in committed.items()}
    assert all(crd["metadata"]["annotations"]["helm.sh/resource-policy"] == "keep" for crd in crds.values())
    assert not of_kind("CustomResourceDefinition", *IMAGES, "--set", "crds.enabled=false")


def test_what_is_opt_in_is_off_by_default() -> None:
    opt_in = {"NetworkPolicy", "ServiceMonitor", "PrometheusRule", "CronJob"}
    assert not {body["kind"] for body in render(*IMAGES)} & opt_in
    assert {body["kind"] for body in render(*ALL)} >= opt_in
    assert set(of_kind("ConfigMap", *IMAGES)) == {"distillery-terms"}


def test_the_operator_is_told_how_much_stage_pods_may_write() -> None:
    (container,) = of_kind("Deployment", *IMAGES)["distillery-operator"]["spec"]["template"]["spec"]["containers"]
    assert {"--scratch=work=500Gi", "--scratch=tmp=8Gi", "--scratch=shm=16Gi"} <= set(container["args"])


def test_every_empty_folder_of_the_chart_is_bounded() -> None:
    """A pod that may fill its node is no guest."""
    pods = [body["spec"]["template"]["spec"] for body in render(*ALL) if body["kind"] == "Deployment"]
    pods += [b["spec"]["jobTemplate"]["spec"]["template"]["spec"] for b in render(*ALL) if b["kind"] == "CronJob"]
    folders = [volume["emptyDir"] for pod in pods for volume in pod.get("volumes", ()) if "emptyDir" in volume]
    assert folders
    assert all(folder.get("sizeLimit") for folder in folders)


@pytest.mark.parametrize(("values", "namespaces"), [((), None), (("--set", "watchNamespaces={team-a,team-b}"), ["team-a", "team-b"])])
def test_the_gateway_is_called_by_stage_pods_and_our_own_alone(values: tuple[str, ...], namespaces: list[str] | None) -> None:
    """Whoever else reaches it could try tokens, and cost it work; more peers are a value."""
    own = ("--set", "networkPolicy.enabled=true", "--set", "networkPolicy.gatewayFrom[0].ipBlock.cidr=10.0.0.0/8")
    ingress = of_kind("NetworkPolicy", *IMAGES, *own, *values)["distillery-gateway"]["spec"]["ingress"]
    [rule] = [rule for rule in ingress if rule["ports"] == [{"protocol": "TCP", "port": "api"}]]
    stages, operator, backup, more = rule["from"]
    assert stages["podSelector"]["matchLabels"] == {"app.kubernetes.io/managed-by": "distillery"}
    asked = stages["namespaceSelector"].get("matchExpressions")
    assert asked == ([{"key": "kubernetes.io/metadata.name", "operator": "In", "values": namespaces}] if namespaces else None)
    assert [peer["podSelector"]["matchLabels"]["app.kubernetes.io/component"] for peer in (operator, backup)] == ["operator", "backup"]
    assert more == {"ipBlock": {"cidr": "10.0.0.0/8"}}


def test_every_object_has_the_common_labels_and_one_identity() -> None:
    seen: set[tuple[str, str, str]] = set()
    for body in render(*ALL):
        meta = body["metadata"]
        assert meta["labels"]["app.kubernetes.io/instance"] == "distillery", body["kind"]
        assert meta["labels"]["app.kubernetes.io/managed-by"] == "Helm", body["kind"]
        identity = (body["kind"], meta.get("namespace", ""), meta["name"])
        assert identity not in seen
        seen.add(identity)


@pytest.mark.parametrize(
    ("setting", "complaint"),
    [
        ("image.oprator=x", "'oprator' not allowed"),
        ("unknown=1", "'unknown' not allowed"),
        ("operator.replica=3", "'replica' not allowed"),
        ("operator.replicas=0", "minimum"),
        ("logLevel=loud", "/logLevel"),
        ("watchNamespaces={Team_A}", "/watchNamespaces/0"),
        ("image.operator=", "image.operator is needed"),
        ("image.trainer=", "image.trainer is needed"),
        ("stageEnv.HF-TOKEN=x", "'HF-TOKEN' not allowed"),
        ("scratch.work=much", "/scratch/work"),
        ("scratch.home=1Gi", "'home' not allowed"),
        ("gateway.replicas=2", "set gateway.ledger.postgres.secret, or gateway.replicas to 1"),
        ("gateway.ledger.sqlite.storage=much", "/gateway/ledger/sqlite/storage"),
        ("gateway.answers.uri=https://answers", "/gateway/answers/uri"),
        ("gateway.ledger.backup.to=s3://bucket/one", "/gateway/ledger/backup/to"),
        ("gateway.ledger.backup.keep=0", "/gateway/ledger/backup/keep"),
        ("gateway.ledger.backup.retention=3", "'retention' not allowed"),
        ("gateway.ledger.backup.enabled=true", "gateway.ledger.backup.to is needed"),
        ("gateway.ledger.enabled=false,gateway.ledger.backup.enabled=true", "there is no ledger to back up"),
        ("gateway.inFlight.answerMiB=33", "gateway.inFlight.totalMiB is 128, and has to be four times"),
        ("openBaseURLs={llama.models:8000}", "/openBaseURLs/0"),
        ("credentials[0].name=openai", "/credentials/0"),
    ],
)
def test_wrong_values_are_refused(setting: str, complaint: str) -> None:
    done = helm("template", "distillery", str(CHART), *IMAGES, "--set", setting)
    assert done.returncode != 0
    assert complaint in done.stderr


def test_the_schema_leaves_no_object_of_ours_open() -> None:
    schema = json.loads((CHART / "values.schema.json").read_text())
    pending, closed = [schema], 0
    while pending:
        node = pending.pop()
        if "properties" in node:
            assert node["additionalProperties"] is False, sorted(node["properties"])
            closed += 1
        pending += [
            child for child in (*node.get("properties", {}).values(), *node.get("definitions", {}).values()) if isinstance(child, dict)
        ]
    assert closed > 10
    assert set(yaml.safe_load((CHART / "values.yaml").read_text())) == set(schema["properties"]) - {"global"}


def test_old_clusters_are_refused() -> None:
    assert helm("template", "d", str(CHART), *IMAGES, "--kube-version", "1.29.9").returncode != 0
    assert helm("template", "d", str(CHART), *IMAGES, "--kube-version", "1.30.0").returncode == 0


def test_helm_lint_is_content() -> None:
    done = helm("lint", "--strict", str(CHART), *ALL)
    assert done.returncode == 0, done.stdout

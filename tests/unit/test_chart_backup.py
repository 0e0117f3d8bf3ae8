"""The CronJob that copies the ledger into an object store: what it is given, and what it is not."""

from typing import Any

from tests.unit.test_chart import ALL, IMAGES, of_kind, pod_specs
from tests.unit.test_chart_gateway import POSTGRES, secrets_of

from distillery.gateway.ledger.commands import _parser
from distillery.gateway.options import options
from distillery.settings import GATEWAY_AUDIENCE

Body = dict[str, Any]
ON_POSTGRES = (*POSTGRES, "--set", "gateway.ledger.backup.enabled=true,gateway.ledger.backup.to=s3://b/")


def backup(values: tuple[str, ...] = ALL) -> Body:
    """Its pod."""
    return pod_specs(values)["distillery-backup"]


def test_it_is_opt_in_and_the_gateway_then_knows_its_account() -> None:
    assert not of_kind("CronJob", *IMAGES)
    assert options(pod_specs(IMAGES)["distillery-gateway"]["containers"][0]["args"]).backup_service_account is None
    account = backup()["serviceAccountName"]
    assert options(pod_specs(ALL)["distillery-gateway"]["containers"][0]["args"]).backup_service_account == f"system/{account}"
    assert of_kind("ServiceAccount", *ALL)[account]["automountServiceAccountToken"] is False


def test_it_takes_the_copy_from_the_gateway_and_keeps_so_many() -> None:
    for values, folder in ((ALL, "s3://backups/ledger/"), (ON_POSTGRES, "s3://b/")):
        [container] = backup(values)["containers"]
        assert container["args"][:2] == ["ledger", "backup"]
        given = _parser().parse_args(container["args"][1:])
        assert (given.gateway, given.to, given.keep, given.database) == ("http://distillery-gateway.system", folder, 14, None)
        [mount] = container["volumeMounts"]
        assert str(given.token_file.parent) == mount["mountPath"]
        assert "distillery-gateway" in of_kind("Service", *values)


def test_it_has_neither_the_ledgers_volume_nor_a_password_nor_rights() -> None:
    for values in (ALL, ON_POSTGRES):
        [volume] = backup(values)["volumes"]
        [token] = volume["projected"]["sources"]
        assert token["serviceAccountToken"]["audience"] == GATEWAY_AUDIENCE
        assert backup(values)["automountServiceAccountToken"] is False
    assert {reference["name"] for reference in secrets_of(backup(ALL)).values()} == {"backups"}
    assert secrets_of(backup(ON_POSTGRES)) == {}, "the pod's own identity"
    for kind in ("RoleBinding", "ClusterRoleBinding"):
        assert not [b for b in of_kind(kind, *ALL).values() if b["subjects"][0]["name"] == backup()["serviceAccountName"]]


def test_one_runs_at_a_time_and_ends() -> None:
    spec = of_kind("CronJob", *ALL)["distillery-backup"]["spec"]
    assert spec["concurrencyPolicy"] == "Forbid"
    assert spec["jobTemplate"]["spec"]["activeDeadlineSeconds"] == 7200
    assert (backup()["restartPolicy"], spec["schedule"]) == ("Never", "17 3 * * *")


def test_policies_let_it_reach_the_gateway_and_the_store_and_let_nobody_in() -> None:
    labels = of_kind("CronJob", *ALL)["distillery-backup"]["spec"]["jobTemplate"]["spec"]["template"]["metadata"]["labels"]
    policies = of_kind("NetworkPolicy", *ALL)
    own = policies["distillery-backup"]["spec"]
    assert own["podSelector"]["matchLabels"].items() <= labels.items()
    assert "ingress" not in own
    assert [port["port"] for port in own["egress"][-1]["ports"]] == [443, 9000]
    [rule] = [r for r in policies["distillery-gateway"]["spec"]["ingress"] if r["ports"][0]["port"] == "api"]
    peers = [
        peer["podSelector"].get("matchLabels", {})
        for peer in rule.get("from", ())
        if "podSelector" in peer and peer.keys() == {"podSelector"}
    ]
    assert "from" not in rule or any(peer.items() <= labels.items() for peer in peers)
    for name in of_kind("Deployment", *ALL):
        assert not policies[name]["spec"]["podSelector"]["matchLabels"].items() <= labels.items()


def test_commands_in_the_gateways_pod_know_the_ledger() -> None:
    def environment(values: tuple[str, ...]) -> dict[str, str]:
        [container] = pod_specs(values)["distillery-gateway"]["containers"]
        return {entry["name"]: entry["value"] for entry in container["env"] if "value" in entry}

    assert environment(IMAGES) == {"DISTILLERY_LEDGER": "sqlite:////var/lib/distillery/ledger.db"}
    assert environment(POSTGRES) == {"DISTILLERY_LEDGER_FILE": "/etc/distillery/ledger/url"}

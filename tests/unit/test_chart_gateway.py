"""What the chart gives the gateway: its ledger, the keys of teachers, the catalogue of terms, a place for answers."""

import json
from typing import Any

import pytest
import yaml
from tests.unit.test_chart import ALL, IMAGES, granted, of_kind, pod_specs

from distillery.gateway.__main__ import law_of
from distillery.gateway.credentials import CredentialEntry
from distillery.gateway.options import options
from distillery.terms import parse_catalogue

Body = dict[str, Any]
POSTGRES = (*IMAGES, "--set", "gateway.ledger.postgres.secret=ledger,gateway.replicas=3")
WITHOUT = (*IMAGES, "--set", "gateway.ledger.enabled=false")


def gateway(values: tuple[str, ...]) -> Body:
    """Its pod."""
    return pod_specs(values)["distillery-gateway"]


def flags(values: tuple[str, ...]) -> dict[str, str]:
    """Name to value."""
    return dict(flag.removeprefix("--").split("=", 1) for flag in gateway(values)["containers"][0]["args"])


def volumes(values: tuple[str, ...]) -> dict[str, tuple[str, Body]]:
    """Name to where it is mounted and what it is."""
    pod = gateway(values)
    mounts = {mount["name"]: mount["mountPath"] for mount in pod["containers"][0]["volumeMounts"]}
    return {volume["name"]: (mounts[volume["name"]], volume) for volume in pod["volumes"]}


def secrets_of(pod: Body) -> dict[str, Body]:
    """Variables of its one container that come from Secrets."""
    [container] = pod["containers"]
    return {entry["name"]: entry["valueFrom"]["secretKeyRef"] for entry in container.get("env", ()) if "valueFrom" in entry}


def test_the_ledger_is_a_file_with_one_writer_that_outlives_the_release() -> None:
    deployment = of_kind("Deployment", *IMAGES)["distillery-gateway"]
    assert (deployment["spec"]["replicas"], deployment["spec"]["strategy"]) == (1, {"type": "Recreate"})
    path, volume = volumes(IMAGES)["ledger"]
    assert flags(IMAGES)["ledger"] == f"sqlite:///{path}/ledger.db"
    claim = of_kind("PersistentVolumeClaim", *IMAGES)[volume["persistentVolumeClaim"]["claimName"]]
    assert claim["metadata"]["annotations"]["helm.sh/resource-policy"] == "keep"
    assert claim["spec"] == {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "5Gi"}}}


def test_a_claim_may_be_there_already() -> None:
    values = (*IMAGES, "--set", "gateway.ledger.sqlite.existingClaim=money")
    assert volumes(values)["ledger"][1]["persistentVolumeClaim"] == {"claimName": "money"}
    assert not of_kind("PersistentVolumeClaim", *values)


def test_a_ledger_in_postgres_may_have_several_gateways_and_its_password_is_in_no_flag() -> None:
    deployment = of_kind("Deployment", *POSTGRES)["distillery-gateway"]
    assert (deployment["spec"]["replicas"], deployment["spec"]["strategy"]) == (3, {"type": "RollingUpdate"})
    path, volume = volumes(POSTGRES)["ledger"]
    assert volume["secret"] == {"secretName": "ledger", "items": [{"key": "url", "path": "url"}]}
    assert flags(POSTGRES)["ledger-file"] == f"{path}/url"
    assert "ledger" not in flags(POSTGRES)
    assert not of_kind("PersistentVolumeClaim", *POSTGRES)


def test_without_a_ledger_it_takes_progress_alone() -> None:
    assert not {"ledger", "ledger-file"} & set(flags(WITHOUT))
    assert "ledger" not in volumes(WITHOUT)
    assert not of_kind("PersistentVolumeClaim", *WITHOUT)


def test_each_key_is_a_file_of_the_gateway_and_a_missing_secret_stops_no_other() -> None:
    path, volume = volumes(ALL)["credentials"]
    listed, *secrets = volume["projected"]["sources"]
    entries = json.loads(of_kind("ConfigMap", *ALL)[listed["configMap"]["name"]]["data"]["credentials.json"])
    assert [CredentialEntry.model_validate(entry).name for entry in entries] == ["openai", "local"]
    assert [s["secret"]["items"][0]["path"] for s in secrets] == [entry["keyFile"] for entry in entries]
    assert all(s["secret"]["optional"] for s in secrets)
    assert flags(ALL)["credentials"] == f"{path}/credentials.json"
    operator = json.dumps(pod_specs(ALL)["distillery-operator"])
    assert "openai" not in operator


def test_both_programs_read_the_same_catalogue_of_terms() -> None:
    data = of_kind("ConfigMap", *ALL)["distillery-terms"]["data"]
    catalogue = parse_catalogue(data["catalogue.yaml"]).overridden(parse_catalogue(data["override.yaml"]))
    assert catalogue.entries[0].id == "ours"
    assert len(catalogue.entries) > 30
    for name in ("distillery-operator", "distillery-gateway"):
        arguments = pod_specs(ALL)[name]["containers"][0]["args"]
        assert {"--terms=/etc/distillery/terms/catalogue.yaml", "--terms-override=/etc/distillery/terms/override.yaml"} <= set(arguments)
        assert "--terms-override" not in str(pod_specs(IMAGES)[name]["containers"][0]["args"])


def test_a_changed_catalogue_makes_new_pods() -> None:
    def checksums(values: tuple[str, ...]) -> set[str]:
        return {d["spec"]["template"]["metadata"]["annotations"]["distillery.dev/terms"] for d in of_kind("Deployment", *values).values()}

    plain, own = checksums(IMAGES), checksums((*IMAGES, "--set", "terms.override.version=v2"))
    assert (len(plain), len(own), len(plain | own)) == (1, 1, 2)


def test_values_reach_the_gateway(tmp_path: Any) -> None:
    given = options(gateway(ALL)["containers"][0]["args"])
    assert given.open_base_urls == ["http://llama.models:8000/v1"]
    assert given.shared_cache_namespaces == ["team-a", "team-b"]
    assert given.answers == "s3://answers/prefix"
    maps = of_kind("ConfigMap", *ALL)
    for flag, name, key in (
        ("terms", "terms", "catalogue.yaml"),
        ("terms_override", "terms", "override.yaml"),
        ("credentials",) * 2 + ("credentials.json",),
    ):
        setattr(given, flag, tmp_path / key)
        (tmp_path / key).write_text(maps[f"distillery-{name}"]["data"][key])
    assert law_of(given).catalogue.entries[0].id == "ours"


def test_keys_of_the_store_are_named_one_by_one() -> None:
    environment = secrets_of(gateway(ALL))
    needed = {name for name, reference in environment.items() if not reference["optional"]}
    assert needed == {"AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"}
    assert {reference["name"] for reference in environment.values()} == {"answers"}
    assert not secrets_of(gateway(IMAGES))


def test_the_gateway_may_reach_the_ports_of_its_teachers() -> None:
    egress = of_kind("NetworkPolicy", *ALL)["distillery-gateway"]["spec"]["egress"]
    assert [port["port"] for port in egress[-1]["ports"]] == [9000, 8000, 443, 8443]


@pytest.mark.parametrize("values", [IMAGES, ALL, POSTGRES, WITHOUT])
def test_secrets_reach_the_gateway_by_its_values_and_nobody_by_rights(values: tuple[str, ...]) -> None:
    for kind in ("Role", "ClusterRole"):
        assert not any(resource == "secrets" for role in of_kind(kind, *values).values() for _, resource in granted(role))


def test_the_catalogue_of_the_chart_is_the_file() -> None:
    data = of_kind("ConfigMap", *IMAGES)["distillery-terms"]["data"]
    assert set(data) == {"catalogue.yaml"}
    assert yaml.safe_load(data["catalogue.yaml"])["entries"]


def test_bytes_in_flight_are_bounded_by_values() -> None:
    given = flags((*IMAGES, "--set", "gateway.inFlight.answerMiB=16"))
    assert (given["request-mib"], given["answer-mib"], given["in-flight-mib"]) == ("1", "16", "128")

"""The shipped catalogue can be read, says where each claim is from, and an organisation's own wins over it."""

from __future__ import annotations

from datetime import date
from pathlib import Path

import pytest

from distillery.api.governance import DeclaredUse
from distillery.terms import BadCatalogue, Catalogue, parse_catalogue
from distillery.terms.catalogue import Match

TERMS = Path("helm/distillery/files/terms.yaml")
TODAY = date(2026, 11, 25)
ENTRY = "{id: x, kind: service, title: X, provider: x, hosts: [api.x.example], rules: [{effect: permit, message: fine.}]}"


@pytest.fixture(scope="module")
def shipped() -> Catalogue:
    return parse_catalogue(TERMS.read_text(), TERMS.name)


def test_every_claim_about_a_text_has_its_address_and_a_day_to_read_it_again(shipped: Catalogue) -> None:
    for entry in shipped.entries:
        if entry.id not in ("self-hosted", "own-weights"):
            assert entry.url, entry.id
            assert entry.review_by, entry.id
            assert entry.review_by > TODAY.isoformat(), f"{entry.id}: read {entry.url} again"
            said = {rule.effect for rule in entry.rules}
            assert entry.retrieved or said == {"unknown"}, f"{entry.id}: a text that nobody read permits and forbids nothing"


def test_the_last_rule_is_about_every_use_that_is_left(shipped: Catalogue) -> None:
    assert [entry.id for entry in shipped.entries if entry.rules[-1].when != Match()] == []


def test_no_two_entries_of_different_providers_share_a_host(shipped: Catalogue) -> None:
    owner: dict[str, str] = {}
    for entry in shipped.entries:
        for host in entry.hosts:
            assert owner.setdefault(host, entry.provider) == entry.provider


def test_the_digest_is_of_the_content_and_not_of_the_layout() -> None:
    a, b = parse_catalogue(f"version: a\nentries: [{ENTRY}]"), parse_catalogue(f"entries:\n- {ENTRY}\nversion: a   # a note")
    assert a.digest == b.digest
    assert a.digest != parse_catalogue(f"version: b\nentries: [{ENTRY}]").digest


def test_an_own_entry_replaces_the_one_with_its_id_and_is_asked_first_where_both_have_the_host() -> None:
    base = parse_catalogue(f"version: base\nentries: [{ENTRY}]")
    same = parse_catalogue(f"version: own\nentries: [{ENTRY.replace('fine.', 'ours.')}]")
    other = parse_catalogue(f"version: own\nentries: [{ENTRY.replace('id: x', 'id: x-contract')}]")

    assert [(e.id, e.rules[0].message) for e in base.overridden(same).entries] == [("x", "ours.")]
    both = base.overridden(other)
    assert [e.id for e in both.entries] == ["x-contract", "x"]
    assert both.version == "base+own"
    found = both.at_host("api.x.example", TODAY)
    assert found is not None
    assert found.id == "x-contract"


def test_a_new_version_counts_from_its_first_day() -> None:
    new = ENTRY.replace("id: x", "id: x-2027").replace("kind:", 'effective: "2027-01-01", kind:')
    catalogue = parse_catalogue(f"version: v\nentries: [{new}, {ENTRY}]")
    ids = [entry.id for day in (date(2026, 12, 31), date(2027, 1, 1)) if (entry := catalogue.at_host("api.x.example", day)) is not None]
    assert ids == ["x", "x-2027"]


@pytest.mark.parametrize(
    ("pattern", "host", "serves"),
    [
        ("api.x.example", "api.x.example", True),
        ("api.x.example", "evil-api.x.example", False),
        ("api.x.example", "api.x.example.evil.example", False),
        ("*.azure.example", "team.azure.example", True),
        ("*.azure.example", "azure.example", False),
        ("bedrock-runtime.*.amazonaws.com", "bedrock-runtime.eu-west-1.amazonaws.com", True),
    ],
)
def test_a_host_pattern_is_about_whole_hosts(pattern: str, host: str, serves: bool) -> None:
    catalogue = parse_catalogue("version: v\nentries: [" + ENTRY.replace("api.x.example", f'"{pattern}"') + "]")
    assert (catalogue.at_host(host, TODAY) is not None) is serves


def use(**changes: object) -> DeclaredUse:
    return DeclaredUse.model_validate({"purpose": "internal", "competes": False} | changes)


@pytest.mark.parametrize(
    ("match", "declared", "meets"),
    [
        ({}, {}, True),
        ({"purpose": ["research", "internal"]}, {}, True),
        ({"purpose": ["research"]}, {}, False),
        ({"task": ["embed"]}, {"task": "embed"}, True),
        ({"task": ["embed"]}, {}, False),
        ({"distribution": ["weights"]}, {"distribution": "weights"}, True),
        ({"competes": True}, {}, False),
        ({"competes": False}, {}, True),
        ({"competes": False, "task": ["embed"]}, {}, False),
        ({"territories": ["EU"]}, {"territories": ["DE"]}, True),
        ({"territories": ["DE"]}, {"territories": ["EU"]}, True),
        ({"territories": ["EU"]}, {"territories": ["US", "CH"]}, False),
        ({"territories": ["KR"]}, {"territories": ["US", "KR"]}, True),
        ({"territories": ["EU"]}, {}, False),
        ({"territories_declared": False}, {}, True),
        ({"territories_declared": True}, {"territories": ["US"]}, True),
    ],
)
def test_a_match_needs_every_field_that_it_names(match: dict[str, object], declared: dict[str, object], meets: bool) -> None:
    assert Match.model_validate(match).meets(use(**declared)) is meets


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("{", "own terms: not YAML"),
        ("[]", "own terms: (root): is a list; it must be an object"),
        (f"version: v\nentries: [{ENTRY}, {ENTRY}]", "two entries have the same id"),
        (f"version: v\nentries: [{ENTRY.replace('service', 'weights')}]", "entries[0]: only a service has hosts"),
        ("version: v\nentries: [" + ENTRY.replace("title", 'url: "https://x.example", title') + "]", "set reviewBy"),
        (
            f"version: v\nentries: [{ENTRY.replace('permit', 'allow')}]",
            "entries[0].rules[0].effect: is \"allow\"; it must be 'deny', 'requireApproval'",
        ),
        (f"version: v\nentries: [{ENTRY.replace('effect', 'when: {task: [draw]}, effect')}]", "entries[0].rules[0].when.task[0]"),
    ],
)
def test_a_bad_catalogue_is_refused_with_entry_and_field(text: str, complaint: str) -> None:
    with pytest.raises(BadCatalogue) as refused:
        parse_catalogue(text, "own terms")
    assert complaint in str(refused.value)


def test_a_day_may_stand_without_quotes() -> None:
    catalogue = parse_catalogue(f"version: v\nentries: [{ENTRY.replace('kind', 'effective: 2026-01-31, kind')}]")
    assert catalogue.entries[0].effective == "2026-01-31"

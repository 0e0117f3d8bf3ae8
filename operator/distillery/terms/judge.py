"""The verdict: the strictest of all terms that apply, and the union of what they ask of the publisher."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import date
from difflib import get_close_matches
from ipaddress import ip_address
from typing import Final
from urllib.parse import urlsplit

from distillery.api.budget import BudgetTeacher
from distillery.api.governance import Approval, DeclaredUse, Obligation, PolicyVerdict
from distillery.api.reasons import APPROVAL_EXPIRED, APPROVAL_NEEDED, TERMS_FORBID_USE, TERMS_UNKNOWN

from .catalogue import Catalogue, Effect, Entry

#: The lattice, the strictest last.
_SEVERITY: Final[Mapping[Effect, int]] = {"permit": 0, "requireApproval": 1, "unknown": 2, "deny": 3}
_REMEDY: Final[Mapping[Effect, str]] = {
    "deny": "Choose a teacher whose terms allow it, or correct spec.governance.declaredUse if the student is for something else.",
    "unknown": "Let your platform team read the terms and add a rule to their own catalogue.",
    "requireApproval": "Let your platform team file the permission in the TeacherBudget: {terms}.approval {{reference, expires}}.",
    "permit": "",
}
#: A job lists so many; the rest would be of entries that say the same.
_MOST_OBLIGATIONS: Final = 16


@dataclass(frozen=True)
class _Finding:
    """What one of the terms says; `entry` is absent where there are none to ask."""

    effect: Effect
    message: str
    entry: Entry | None = None
    clause: str = ""
    remedy: str = ""


def judge(use: DeclaredUse, teacher: BudgetTeacher, catalogue: Catalogue, today: date) -> PolicyVerdict:
    """What the terms of a teacher's service and weights say about a use: deny > unknown > requireApproval > permit."""
    terms = f'spec.teachers["{teacher.name}"].terms'
    findings = _findings(use, teacher, catalogue, today, terms)
    approval = teacher.terms.approval
    asked = any(found.effect == "requireApproval" for found in findings)
    if asked and approval is not None:
        findings = [_approved(found, approval, today, terms) for found in findings]
    decisive = max(findings, key=lambda found: (_SEVERITY[found.effect], found.entry is not None and found.entry.url is not None))
    entries = list({found.entry.id: found.entry for found in findings if found.entry is not None}.values())
    return PolicyVerdict(
        verdict=decisive.effect,
        terms=[entry.id for entry in entries],
        clause=decisive.clause,
        url=(decisive.entry.url or "") if decisive.entry else "",
        message=f"{decisive.message} {decisive.remedy}".rstrip(),
        obligations=_obligations(use, entries, today),
        catalogue=catalogue.digest,
        approval=approval.reference if asked and approval is not None else None,
    )


def reason_of(verdict: PolicyVerdict) -> str | None:
    """The machine reason for which a job is stopped; None where it may go on."""
    if verdict.verdict == "permit":
        return None
    if verdict.verdict == "requireApproval":
        # an approval beside a verdict that still asks for one has ended
        return APPROVAL_EXPIRED if verdict.approval is not None else APPROVAL_NEEDED
    return TERMS_FORBID_USE if verdict.verdict == "deny" else TERMS_UNKNOWN


def _findings(use: DeclaredUse, teacher: BudgetTeacher, catalogue: Catalogue, today: date, terms: str) -> list[_Finding]:
    service = _service(teacher, catalogue, today, terms)
    found = [service if isinstance(service, _Finding) else _says(service, use, terms)]
    if teacher.terms.weights is not None:
        weights = _weights(teacher.terms.weights, catalogue, terms)
        found.append(weights if isinstance(weights, _Finding) else _says(weights, use, terms))
    elif isinstance(service, Entry) and service.needs_weights:
        text = f"{service.title}: what may be done with answers is up to the terms of the model, and {terms}.weights is not set."
        found.append(_Finding("unknown", f"{text} Set it to the licence, for example apache-2.0, or own-weights for a model of your own."))
    return found


def _service(teacher: BudgetTeacher, catalogue: Catalogue, today: date, terms: str) -> Entry | _Finding:
    """The terms of whoever runs the API."""
    host = urlsplit(teacher.base_url).hostname or ""
    at_host = catalogue.at_host(host, today)
    named = teacher.terms.service
    if named is None:
        return at_host or _Finding("unknown", _homeless(host, terms))
    entry = catalogue.get(named)
    if entry is None:
        return _Finding("unknown", _missing(f"{terms}.service", named, catalogue))
    if entry.kind == "weights":
        return _Finding("unknown", f'{terms}.service: "{named}" is a licence of weights; name it in {terms}.weights.')
    if at_host is not None and at_host.provider != entry.provider:
        text = f'{terms}.service: "{named}" is a contract with {entry.provider}, but {host} belongs to {at_host.provider} ("{at_host.id}").'
        return _Finding("unknown", f"{text} Correct it, or leave it out: the entry is found by the host.")
    return entry


def _weights(named: str, catalogue: Catalogue, terms: str) -> Entry | _Finding:
    """The terms of whoever made the model; a service's own, where a reseller passes on a model without open weights."""
    entry = catalogue.get(named)
    if entry is None:
        return _Finding("unknown", _missing(f"{terms}.weights", named, catalogue))
    if entry.needs_weights:
        return _Finding("unknown", f'{terms}.weights: "{named}" says nothing about models; name the licence of the weights.')
    return entry


def _says(entry: Entry, use: DeclaredUse, terms: str) -> _Finding:
    rule = entry.rule(use)
    if rule is None:
        return _Finding("unknown", _sentence(entry, entry.clause, "no rule is about this use."), entry, entry.clause, _REMEDY["unknown"])
    clause = rule.clause or entry.clause
    if rule.effect == "permit" and (prefix := _broken_prefix(entry, use)) is not None:
        said = f'the name of the student has to begin with "{prefix}", and declaredUse.studentName is "{use.student_name}".'
        return _Finding("deny", _sentence(entry, clause, said), entry, clause, "Rename it in spec.governance.declaredUse.")
    remedy = rule.remedy or _REMEDY[rule.effect].format(terms=terms)
    return _Finding(rule.effect, _sentence(entry, clause, rule.message), entry, clause, remedy)


def _sentence(entry: Entry, clause: str, said: str) -> str:
    where = ", ".join(part for part in (clause, entry.url) if part)
    return f"{entry.title}{f' ({where})' if where else ''}: {said}"


def _approved(found: _Finding, approval: Approval, today: date, terms: str) -> _Finding:
    if found.effect != "requireApproval":
        return found
    if today.isoformat() > approval.expires:
        ended = f"Approval {approval.reference} ended on {approval.expires}."
        return replace(
            found, message=f"{ended} {found.message}", remedy=f"Let your platform team renew {terms}.approval in the TeacherBudget."
        )
    given = f"Permitted until {approval.expires} by approval {approval.reference}."
    return replace(found, effect="permit", message=f"{given} {found.message}", remedy="")


def _broken_prefix(entry: Entry, use: DeclaredUse) -> str | None:
    if use.student_name is None:
        return None
    asked = [duty.value for duty in entry.obligations if duty.type == "namePrefix" and duty.when.meets(use)]
    return next((prefix for prefix in asked if not use.student_name.startswith(prefix)), None)


def _obligations(use: DeclaredUse, entries: list[Entry], today: date) -> list[Obligation]:
    found = [duty.obligation() for entry in entries for duty in entry.obligations if duty.when.meets(use)]
    late = [entry for entry in entries if entry.review_by is not None and today.isoformat() > entry.review_by]
    found.extend(Obligation(type="review", value=f"{entry.id} was to be read again by {entry.review_by}") for entry in late)
    return list({(duty.type, duty.value): duty for duty in found}.values())[:_MOST_OBLIGATIONS]


def _missing(field: str, named: str, catalogue: Catalogue) -> str:
    near = get_close_matches(named, [entry.id for entry in catalogue.entries], 3, 0.5)
    hint = f"did you mean {', '.join(near)}?" if near else "take the id of one, or let your platform team add it."
    return f'{field}: the catalogue of terms has no entry "{named}"; {hint}'


def _homeless(host: str, terms: str) -> str:
    if _inside(host):
        found = f"{host} is inside the cluster, so no terms are found by it"
        return f"{found}; if the server is your own, set {terms}.service: self-hosted and {terms}.weights."
    return f"the catalogue of terms has no entry for {host}; set {terms}.service, or let your platform team add an entry with this host."


def _inside(host: str) -> bool:
    """Whether a host is one of a cluster, of a private network or of the machine itself."""
    try:
        return not ip_address(host).is_global
    except ValueError:
        return "." not in host or host.endswith((".svc", ".local", ".localhost", ".internal"))

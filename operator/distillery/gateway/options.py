"""The flags of the gateway, as the chart sets them."""

from __future__ import annotations

import argparse
from pathlib import Path


def options(arguments: list[str]) -> argparse.Namespace:
    """Parsed, or an exit with the flag's name."""
    parser = argparse.ArgumentParser(
        prog="distillery-gateway", description="Asks teachers within budgets, and takes the progress of stage pods."
    )
    add = parser.add_argument
    add("--operator-service-account", required=True, metavar="NAMESPACE/NAME", help="who may read progress and budgets, and reserve money")
    add("--port", type=int, default=8080, help="of the API, for pods and the operator")
    add("--health-port", type=int, default=8081, help="of /healthz, /readyz and /metrics")
    add("--log-level", default="info", choices=("debug", "info", "warning", "error"))
    ledger = parser.add_mutually_exclusive_group()
    ledger.add_argument("--ledger", help="sqlite:////data/ledger.db or postgresql://…; without a ledger no teacher is asked")
    ledger.add_argument("--ledger-file", type=Path, help="file that holds that URL, where it has a password in it")
    add("--terms", type=Path, help="catalogue of terms (YAML); needed with a ledger")
    add("--terms-override", type=Path, help="an organisation's own catalogue: its entries come first")
    add("--credentials", type=Path, help="JSON list of {name, baseURLs, namespaces, keyFile or env}")
    add("--open-base-urls", type=_list, default=[], metavar="URL,…", help="teachers that are called without a credential")
    add("--shared-cache-namespaces", type=_list, default=[], metavar="NAME,…", help="may use cache.scope shared; * for all")
    add("--teacher-timeout", type=float, default=600.0, help="seconds until a request to a teacher is in doubt")
    add("--request-mib", type=int, default=1, help="the longest body of a request; longer ones are refused")
    add("--answer-mib", type=int, default=8, help="the longest answer of a teacher; the rest is not read, and its cost in doubt")
    add("--in-flight-mib", type=int, default=128, help="all bodies of requests and answers that are under way at once")
    add("--answers", help="s3://bucket/prefix for the bodies of answers (AWS_* in the environment); without it they stay in the ledger")
    add("--backup-service-account", metavar="NAMESPACE/NAME", help="who may read the whole ledger, to back it up; nobody if absent")
    found = parser.parse_args(arguments)
    if found.in_flight_mib < 4 * max(found.request_mib, found.answer_mib):
        parser.error("--in-flight-mib: has to be four times --request-mib and --answer-mib, so that two are under way at once")
    for flag, account in (("operator", found.operator_service_account), ("backup", found.backup_service_account)):
        if account is not None and account.count("/") != 1:
            parser.error(f"--{flag}-service-account {account}: give NAMESPACE/NAME")
    if found.ledger_file is not None:
        found.ledger = found.ledger_file.read_text().strip()
    if found.ledger and found.terms is None:
        parser.error("--terms: needed with --ledger; give the catalogue of the chart")
    return found


def _list(text: str) -> list[str]:
    return [part.strip() for part in text.split(",") if part.strip()]

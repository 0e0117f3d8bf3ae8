"""The flags of the operator, as the chart sets them."""

from __future__ import annotations

import argparse
import os
import socket
from pathlib import Path

from .settings import Settings
from .terms import Catalogue, parse_catalogue


def options(arguments: list[str]) -> argparse.Namespace:
    """The flags, as the chart sets them."""
    parser = argparse.ArgumentParser(prog="distillery-operator", description="Turns DistillationJobs into Jobs.")
    add = parser.add_argument
    add("--trainer-image", required=True, help="image of the stage pods")
    add("--image-pull-policy", default="IfNotPresent", choices=("Always", "IfNotPresent", "Never"), help="of the stage pods")
    add("--scratch", action="append", default=[], metavar="FOLDER=SIZE", help="most that a stage pod writes to work, tmp or shm; repeated")
    add("--stage-env", action="append", default=[], metavar="NAME=VALUE", help="environment of every stage pod; may be repeated")
    add("--namespaces", default="", help="comma-separated namespaces to watch; empty: all")
    add("--gateway-url", help="the gateway as pods and the operator reach it; without it there is no progress")
    add("--gateway-token-file", type=Path, default=Path("/var/run/secrets/distillery/token"), help="projected token for the gateway")
    add("--terms", type=Path, help="catalogue of terms of teachers; without it none is known, and no teacher behind an API is asked")
    add("--terms-override", type=Path, help="catalogue of one's own, whose entries come first")
    add("--lease-namespace", default=os.environ.get("POD_NAMESPACE", "default"), help="default: $POD_NAMESPACE")
    add("--lease-name", default="distillery-operator", help="Lease that elects the leader")
    add("--identity", default=os.environ.get("POD_NAME") or socket.gethostname(), help="this replica; default: $POD_NAME")
    add("--http-port", type=int, default=8080, help="of /healthz, /readyz and /metrics")
    add("--resync-seconds", type=float, default=Settings.resync_seconds, help="time between looks at every job")
    add("--progress-seconds", type=float, default=Settings.progress_seconds, help="time between two looks at a running stage's progress")
    add("--concurrency", type=int, default=Settings.concurrency, help="jobs reconciled at once")
    add("--log-level", default="info", choices=("debug", "info", "warning", "error"))
    found = parser.parse_args(arguments)
    for pair in found.stage_env:
        if "=" not in pair:
            parser.error(f"--stage-env {pair}: give NAME=VALUE")
    for pair in found.scratch:
        if pair.partition("=")[0] not in Settings().scratch:
            parser.error(f"--scratch {pair}: give work=SIZE, tmp=SIZE or shm=SIZE")
    return found


def terms_of(given: argparse.Namespace) -> Catalogue:
    """The catalogue of terms that the flags name. BadCatalogue, OSError."""
    found = parse_catalogue(given.terms.read_text(), str(given.terms)) if given.terms else Catalogue(version="none")
    return found.overridden(parse_catalogue(given.terms_override.read_text(), str(given.terms_override))) if given.terms_override else found


def settings_of(given: argparse.Namespace) -> Settings:
    """What reconcile reads of the flags."""
    return Settings(
        trainer_image=given.trainer_image,
        image_pull_policy=given.image_pull_policy,
        gateway_url=given.gateway_url,
        scratch={**Settings().scratch, **dict(pair.split("=", 1) for pair in given.scratch)},
        stage_env=dict(pair.split("=", 1) for pair in given.stage_env),
        namespaces=tuple(n for n in given.namespaces.split(",") if n),
        resync_seconds=given.resync_seconds,
        progress_seconds=given.progress_seconds,
        concurrency=given.concurrency,
    )

"""The client of an object store that the gateway uses: for answers and for copies of its ledger. Imported only where there is a store."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import boto3  # type: ignore[import-untyped]
from botocore.config import Config  # type: ignore[import-untyped]
from botocore.exceptions import ClientError  # type: ignore[import-untyped]

#: Checksums of the newer protocol are left out where they are optional: older servers refuse them.
_CONFIG: Final = {
    "retries": {"mode": "standard", "total_max_attempts": 3},
    "connect_timeout": 5,
    "request_checksum_calculation": "when_required",
    "response_checksum_validation": "when_required",
}


def client(environment: Mapping[str, str], *, connections: int, patience: float) -> Any:
    """Credentials and endpoint are the AWS_* variables of `environment`, or the pod's own identity; `patience` in seconds for each read."""
    endpoint = environment.get("AWS_ENDPOINT_URL_S3") or environment.get("AWS_ENDPOINT_URL") or None
    style = {"addressing_style": "path" if endpoint else "auto"}
    config = Config(**_CONFIG, max_pool_connections=connections, read_timeout=patience, s3=style)
    region = environment.get("AWS_REGION") or "us-east-1"
    return boto3.Session(region_name=region).client("s3", endpoint_url=endpoint, config=config)


def code(error: ClientError) -> str:
    """The store's own word for what is wrong."""
    return str(error.response.get("Error", {}).get("Code"))

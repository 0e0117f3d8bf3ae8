"""S3 and what speaks its protocol, through boto3."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import boto3  # type: ignore[import-untyped]
from boto3.exceptions import Boto3Error  # type: ignore[import-untyped]
from boto3.s3.transfer import TransferConfig  # type: ignore[import-untyped]
from botocore.config import Config  # type: ignore[import-untyped]
from botocore.exceptions import (  # type: ignore[import-untyped]
    BotoCoreError,
    ClientError,
    CredentialRetrievalError,
    EndpointConnectionError,
    HTTPClientError,
    InvalidRegionError,
    NoCredentialsError,
    PartialCredentialsError,
)

from distillery.api import reasons
from distillery_trainer.errors import Missing, StageError, unavailable

from . import Entry, Location, local_files, safe_join

#: XAdminUserNotFound is versitygw's word for an unknown access key, with status 404.
_DENIED = {
    "AccessDenied", "InvalidAccessKeyId", "SignatureDoesNotMatch", "ExpiredToken", "InvalidToken", "AllAccessDisabled",
    "XAdminUserNotFound",
}  # fmt: skip
_FULL = {"QuotaExceeded", "XMinioStorageFull", "507"}
_RETRY = {"SlowDown", "RequestTimeout", "RequestTimeTooSkewed", "Throttling", "ThrottlingException", "OperationAborted", "429"}
#: A conditional put may meet another in flight (409); the other then ends, one way or the other.
_CONFLICT_TRIES = 8
# Checksums of the newer protocol are left out where they are optional: our manifests hold sha256, and older servers refuse them.
_CONFIG = {
    "retries": {"mode": "standard", "total_max_attempts": 5},
    "connect_timeout": 10,
    "read_timeout": 60,
    "max_pool_connections": 16,
    "request_checksum_calculation": "when_required",
    "response_checksum_validation": "when_required",
}
_TRANSFER = TransferConfig(multipart_threshold=64 << 20, multipart_chunksize=64 << 20, max_concurrency=4)


class S3Store:
    """Objects under one prefix of a bucket."""

    def __init__(self, location: Location) -> None:
        self._location = location
        self._bucket, _, self._prefix = location.uri.removeprefix("s3://").partition("/")
        endpoint = location.variable("AWS_ENDPOINT_URL")
        session = boto3.Session(
            aws_access_key_id=location.variable("AWS_ACCESS_KEY_ID"),
            aws_secret_access_key=location.variable("AWS_SECRET_ACCESS_KEY"),
            aws_session_token=location.variable("AWS_SESSION_TOKEN"),
            region_name=location.variable("AWS_REGION") or location.environment.get("AWS_REGION"),
        )
        custom = endpoint or location.environment.get("AWS_ENDPOINT_URL_S3") or location.environment.get("AWS_ENDPOINT_URL")
        config = Config(**_CONFIG, s3={"addressing_style": "path" if custom else "auto"})
        try:
            self._client: Any = session.client("s3", endpoint_url=custom, config=config, region_name=session.region_name or "us-east-1")
        except (BotoCoreError, ValueError) as error:
            raise location.error(reasons.BAD_INPUT, f"{error}; {location.secret} (AWS_ENDPOINT_URL, AWS_REGION)") from error
        self._endpoint = self._client.meta.endpoint_url

    def uri(self, path: str = "") -> str:
        """The full URI of a path."""
        return f"s3://{self._bucket}/{self._key(path)}"

    def read(self, path: str) -> bytes:
        """The bytes of an object."""
        with self._explained(path):
            return bytes(self._client.get_object(Bucket=self._bucket, Key=self._key(path))["Body"].read())

    def exists(self, path: str) -> bool:
        """Whether an object is there."""
        try:
            with self._explained(path):
                self._client.head_object(Bucket=self._bucket, Key=self._key(path))
        except Missing:
            return False
        return True

    def list(self, prefix: str = "") -> list[Entry]:
        """All objects under a prefix, taken as a folder or as one name; the tag is the ETag."""
        whole, entries = self._key(prefix), []
        with self._explained(prefix):
            for page in self._client.get_paginator("list_objects_v2").paginate(Bucket=self._bucket, Prefix=whole):
                for item in page.get("Contents", []):
                    key = item["Key"]
                    if not key.endswith("/") and (key == whole or not whole or key.startswith(f"{whole}/")):
                        path = self._location.inside(self._relative(key) or prefix)
                        entries.append(Entry(path, item["Size"], item["ETag"].strip('"')))
        return sorted(entries)

    def get(self, path: str, target: Path) -> None:
        """Download an object."""
        target.parent.mkdir(parents=True, exist_ok=True)
        with self._explained(path):
            self._client.download_file(self._bucket, self._key(path), str(target), Config=_TRANSFER)

    def download(self, prefix: str, folder: Path) -> Sequence[str]:
        """Download every object under a prefix, four at a time."""
        entries = self.list(prefix)
        names = [entry.path[len(prefix) :].lstrip("/") or Path(entry.path or self._prefix).name for entry in entries]
        with ThreadPoolExecutor(4) as pool:
            for _ in pool.map(lambda pair: self.get(pair[0].path, safe_join(folder, pair[1])), zip(entries, names, strict=True)):
                pass
        return names

    def write(self, path: str, data: bytes) -> None:
        """Put an object."""
        with self._explained(path):
            self._client.put_object(Bucket=self._bucket, Key=self._key(path), Body=data)

    def create(self, path: str, data: bytes) -> bool:
        """A conditional put: 412 says that the object is there already."""
        for _ in range(_CONFLICT_TRIES):
            try:
                with self._explained(path):
                    try:
                        self._client.put_object(Bucket=self._bucket, Key=self._key(path), Body=data, IfNoneMatch="*")
                    except ClientError as error:
                        if _status(error) == 412:
                            return False
                        if _status(error) == 501:
                            text = "this server has no conditional put (If-None-Match), which commits rest on: use one that has"
                            raise self._location.error(reasons.UNSUPPORTED, text) from error
                        if _status(error) != 409:
                            raise
                        continue
                    return True
            except Missing as error:
                raise self._location.error(reasons.NOT_FOUND, str(error)) from error
        raise unavailable(f"{self._location.field}: {self.uri(path)} stays in conflict with another writer; trying again later")

    def put(self, source: Path, path: str) -> None:
        """Upload a local file, in parts where it is large."""
        with self._explained(path):
            self._client.upload_file(str(source), self._bucket, self._key(path), Config=_TRANSFER)

    def upload(self, folder: Path, prefix: str) -> None:
        """Upload a local folder, four files at a time."""
        with ThreadPoolExecutor(4) as pool:
            for _ in pool.map(lambda pair: self.put(pair[0], f"{prefix}/{pair[1]}"), local_files(folder)):
                pass

    def delete(self, prefix: str) -> None:
        """Delete one by one: not every server has the bulk call, and these are few."""
        for entry in self.list(prefix):
            with self._explained(entry.path):
                self._client.delete_object(Bucket=self._bucket, Key=self._key(entry.path))

    def _key(self, path: str) -> str:
        return "/".join(part for part in (self._prefix, self._location.inside(path)) if part)

    def _relative(self, key: str) -> str:
        return key[len(self._prefix) :].removeprefix("/") if self._prefix else key

    @contextmanager
    def _explained(self, path: str) -> Iterator[None]:
        try:
            yield
        except (BotoCoreError, ClientError, Boto3Error) as error:
            cause = error.__cause__ or error.__context__ if isinstance(error, Boto3Error) else error
            raise self._classified(cause or error, path) from error

    def _classified(self, error: BaseException, path: str) -> StageError:
        place = self._location
        if isinstance(error, ClientError):
            code, status = str(error.response["Error"].get("Code", "")), _status(error)
            text = f"{code} {error.response['Error'].get('Message', '')}".strip()
            if code == "NoSuchBucket":
                text = f"bucket {self._bucket!r} does not exist at {self._endpoint}: create it or correct the URI"
                return place.error(reasons.NOT_FOUND, text)
            if code in _DENIED or status in (401, 403):
                return place.error(reasons.ACCESS_DENIED, f"{self._endpoint} refuses access ({text}): {place.secret}")
            if status == 404:
                return Missing(f"{place.field}: no object {self.uri(path)} at {self._endpoint}; check the path")
            if code in _FULL or status == 507:
                return place.error(reasons.DISK_FULL, f"{self._endpoint} has no space left ({text}): raise its quota or delete old stages")
            if code in _RETRY or status >= 500:
                return unavailable(f"{place.field}: {self._endpoint} answers {status} ({text}); trying again later")
            return place.error(reasons.BAD_INPUT, f"{self._endpoint} refuses {self.uri(path)} ({text})")
        if isinstance(error, NoCredentialsError | PartialCredentialsError | CredentialRetrievalError):
            return place.error(reasons.ACCESS_DENIED, f"no complete AWS credentials ({error}): {place.secret}")
        if isinstance(error, InvalidRegionError):
            return place.error(reasons.BAD_INPUT, f"{error}; {place.secret}")
        if isinstance(error, HTTPClientError | EndpointConnectionError):
            text = f"{self._endpoint} does not answer ({error}); trying again later; check AWS_ENDPOINT_URL if it stays so"
            return unavailable(f"{place.field}: {text}")
        return unavailable(f"{place.field}: transfer of {self.uri(path)} failed ({error}); trying again later")


def _status(error: ClientError) -> int:
    return int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))

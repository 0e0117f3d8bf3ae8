"""Copies of the ledger in an object store, and from another gateway: what `distillery-gateway ledger backup` and `restore` reach."""

from __future__ import annotations

import http.client
import io
import re
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any, Final

from boto3.s3.transfer import TransferConfig  # type: ignore[import-untyped]
from botocore.exceptions import BotoCoreError, ClientError  # type: ignore[import-untyped]

from . import s3
from .ledger import LedgerError
from .ledger.dump import Header

_BLOCK: Final = 1 << 20
#: One part of an object at a time is in memory; 10 000 parts, the most that S3 takes, are 80 GiB.
_PARTS: Final = TransferConfig(multipart_threshold=8 * _BLOCK, multipart_chunksize=8 * _BLOCK, use_threads=False)
#: Names that this program gives: the ledger, then the time, so that they sort by it.
_OURS: Final = re.compile(r"ledger-(?P<ledger>[0-9a-f]{12})-[0-9]{8}T[0-9]{6}Z\.jsonl\.gz")
#: Metadata of an object that this program wrote.
_MARK: Final = "distillery-ledger"
_PATIENCE: Final = 60.0


class Vault:
    """AWS_* of `environment` are credentials and endpoint of the store."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        self._environment = environment

    @cached_property
    def _client(self) -> Any:
        return s3.client(self._environment, connections=2, patience=_PATIENCE)

    def write(self, uri: str, blocks: Iterator[bytes], header: Header) -> str:
        """Store a copy whole or not at all, in a folder (…/) under a name of its own; gives its URI. LedgerError if one is there."""
        bucket, key = _parts(uri)
        if not key or key.endswith("/"):
            key += f"ledger-{header.ledger}-{re.sub('[-:]', '', header.at[:19])}Z.jsonl.gz"
        place = f"s3://{bucket}/{key}"
        with _told(place, "written"):
            if self._found(bucket, key):
                raise LedgerError(f"backup {place}: the object exists; name another one")
            more = {"ContentType": "application/gzip", "Metadata": {_MARK: header.ledger}}
            # what `blocks` raises ends the upload, and no object appears
            self._client.upload_fileobj(_Reader(blocks), bucket, key, ExtraArgs=more, Config=_PARTS)
        return place

    def read(self, uri: str) -> Iterator[bytes]:
        """A copy; of a folder the newest. LedgerError."""
        bucket, key = _parts(uri)
        if not key or key.endswith("/"):
            key = self._newest(uri, bucket, key)
        with _told(f"s3://{bucket}/{key}", "read"):
            yield from self._client.get_object(Bucket=bucket, Key=key)["Body"].iter_chunks(_BLOCK)

    def retain(self, folder: str, ledger: str, count: int) -> list[str]:
        """Delete all but the newest copies of a ledger that this program wrote there; gives their URIs. LedgerError."""
        bucket, prefix = _parts(folder)
        deleted = []
        with _told(folder, "listed"):
            mine = sorted(key for key in self._copies(bucket, f"{prefix}ledger-{ledger}-", prefix))
            for key in mine[:-count]:
                # a name alone proves nothing
                if self._client.head_object(Bucket=bucket, Key=key)["Metadata"].get(_MARK) == ledger:
                    self._client.delete_object(Bucket=bucket, Key=key)
                    deleted.append(f"s3://{bucket}/{key}")
        return deleted

    def fetch(self, gateway: str, token_file: Path | None) -> Iterator[bytes]:
        """The dump that a gateway makes of its ledger. LedgerError."""
        if token_file is None:
            raise LedgerError("backup --gateway: give --token-file, a ServiceAccount's token for the gateway's audience")
        request = urllib.request.Request(f"{gateway.rstrip('/')}/v1/ledger/backup")
        request.add_header("Authorization", f"Bearer {token_file.read_text().strip()}")
        try:
            with urllib.request.urlopen(request, timeout=_PATIENCE) as response:
                while block := response.read(_BLOCK):
                    yield block
        except urllib.error.HTTPError as error:
            raise LedgerError(f"backup: {gateway} answers {error.code}: {error.read(4096).decode(errors='replace')}") from error
        except http.client.HTTPException as error:
            raise LedgerError(f"backup: what {gateway} sent broke off ({error!r}); its log tells why") from error

    def _newest(self, uri: str, bucket: str, prefix: str) -> str:
        with _told(uri, "listed"):
            found = sorted(self._copies(bucket, f"{prefix}ledger-", prefix))
        ledgers = {key.removeprefix(prefix).split("-")[1] for key in found}
        if len(ledgers) != 1:
            told = f"copies of {len(ledgers)} ledgers: {', '.join(sorted(ledgers))}; name the object" if ledgers else "no copy of a ledger"
            raise LedgerError(f"restore --from {uri}: it has {told}")
        return found[-1]

    def _copies(self, bucket: str, start: str, prefix: str) -> Iterator[str]:
        for page in self._client.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=start):
            for item in page.get("Contents", ()):
                if _OURS.fullmatch(item["Key"].removeprefix(prefix)):
                    yield item["Key"]

    def _found(self, bucket: str, key: str) -> bool:
        try:
            self._client.head_object(Bucket=bucket, Key=key)
        except ClientError as error:
            if s3.code(error) in ("404", "NoSuchKey"):
                return False
            raise
        return True


class _Reader(io.RawIOBase):
    """Blocks as a file to read."""

    def __init__(self, blocks: Iterator[bytes]) -> None:
        self._blocks, self._rest = blocks, b""

    def readable(self) -> bool:
        """It is."""
        return True

    def read(self, size: int = -1) -> bytes:
        """So many bytes, fewer only at the end."""
        parts, length = [self._rest], len(self._rest)
        for block in self._blocks if size < 0 or length < size else ():
            parts.append(block)
            length += len(block)
            if 0 <= size <= length:
                break
        whole = b"".join(parts)
        end = len(whole) if size < 0 else size
        self._rest = whole[end:]
        return whole[:end]


def _parts(uri: str) -> tuple[str, str]:
    bucket, _, key = uri.removeprefix("s3://").partition("/")
    if not bucket:
        raise LedgerError(f"{uri}: give s3://bucket/key, or s3://bucket/folder/")
    return bucket, key


@contextmanager
def _told(what: str, done: str) -> Iterator[None]:
    try:
        yield
    except (ClientError, BotoCoreError) as error:
        raise LedgerError(f"{what} cannot be {done}: {error}; the store's address and keys are AWS_* of the environment") from error

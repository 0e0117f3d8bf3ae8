"""Bodies of answers in an object store, each under the digest of its content. Imported only where an installation has a store."""

from __future__ import annotations

import asyncio
import gzip
import hashlib
import zlib
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Final, TypeVar

from botocore.exceptions import BotoCoreError, ClientError  # type: ignore[import-untyped]

from . import s3
from .errors import StoreUnavailable
from .foreign import secret

T = TypeVar("T")
_THREADS: Final = 8
_THERE: Final = ("PreconditionFailed", "412")
_GONE: Final = ("NoSuchKey", "404")


class Bodies:
    """`uri` is s3://bucket/prefix; credentials and endpoint are the AWS_* variables of `environment`, or the pod's own identity."""

    def __init__(self, uri: str, environment: Mapping[str, str]) -> None:
        scheme, _, rest = uri.partition("://")
        self._bucket, _, prefix = rest.rstrip("/").partition("/")
        if scheme != "s3" or not self._bucket:
            raise ValueError(f"--answers {uri}: give s3://bucket/prefix")
        self._prefix = f"{prefix}/" if prefix else ""
        self._client = s3.client(environment, connections=_THREADS, patience=20)
        self._secret = secret(environment.get("AWS_SECRET_ACCESS_KEY"))
        self._threads = ThreadPoolExecutor(_THREADS, "answers")

    def close(self) -> None:
        """End the threads."""
        self._threads.shutdown()

    async def put(self, digest: str, body: bytes) -> str:
        """Store a body; gives its location. That it is there already is as good."""
        key = f"{self._prefix}{digest[:2]}/{digest}.json.gz"
        packed = await self._in_thread(lambda: gzip.compress(body, 6, mtime=0))
        try:
            await self._in_thread(
                # no Content-Encoding: some servers unpack what carries one
                lambda: self._client.put_object(Bucket=self._bucket, Key=key, Body=packed, ContentType="application/gzip", IfNoneMatch="*")
            )
        except ClientError as error:
            if s3.code(error) not in _THERE:
                raise StoreUnavailable(f"s3://{self._bucket}/{key} cannot be written: {self._secret.shown(error)}") from error
        except BotoCoreError as error:
            raise StoreUnavailable(f"s3://{self._bucket}/{key} cannot be written: {self._secret.shown(error)}") from error
        return f"s3://{self._bucket}/{key}"

    async def get(self, location: str, digest: str) -> bytes | None:
        """A body; None where it is gone, or is not what was stored."""
        bucket, _, key = location.removeprefix("s3://").partition("/")
        try:
            body = await self._in_thread(lambda: gzip.decompress(self._client.get_object(Bucket=bucket, Key=key)["Body"].read()))
        except ClientError as error:
            if s3.code(error) in _GONE:
                return None
            raise StoreUnavailable(f"{location} cannot be read: {self._secret.shown(error)}") from error
        except BotoCoreError as error:
            raise StoreUnavailable(f"{location} cannot be read: {self._secret.shown(error)}") from error
        except (gzip.BadGzipFile, zlib.error, EOFError):
            return None
        return body if hashlib.sha256(body).hexdigest() == digest else None

    async def _in_thread(self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._threads, work)

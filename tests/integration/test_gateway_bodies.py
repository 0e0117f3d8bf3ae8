"""The gateway's store of answers on the S3 server of the tests: what is put is got, once and whole, and what is gone is gone."""

import asyncio
import hashlib
from collections.abc import Iterator
from typing import Any

import pytest
from tests.conftest import ObjectStore

from distillery.gateway.bodies import Bodies

pytestmark = pytest.mark.cluster


@pytest.fixture
def bodies(object_store: ObjectStore, bucket: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bodies]:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", object_store.access_key_id)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", object_store.secret_access_key)
    found = Bodies(f"s3://{bucket}/answers", {"AWS_ENDPOINT_URL": object_store.endpoint})
    yield found
    found.close()


async def test_answers_are_stored_once_and_found_whole(bodies: Bodies, s3: Any, bucket: str) -> None:
    body = b'{"choices": []}' * 10_000
    digest = hashlib.sha256(body).hexdigest()
    locations = await asyncio.gather(*(bodies.put(digest, body) for _ in range(8)))
    assert len(set(locations)) == 1
    assert await bodies.get(locations[0], digest) == body
    found = s3.list_objects_v2(Bucket=bucket)["Contents"]
    assert [item["Key"] for item in found] == [f"answers/{digest[:2]}/{digest}.json.gz"]


async def test_a_body_that_is_gone_or_another_is_none(bodies: Bodies, s3: Any, bucket: str) -> None:
    digest = hashlib.sha256(b"{}").hexdigest()
    location = await bodies.put(digest, b"{}")
    assert await bodies.get(location, "0" * 64) is None
    s3.delete_object(Bucket=bucket, Key=location.removeprefix(f"s3://{bucket}/"))
    assert await bodies.get(location, digest) is None

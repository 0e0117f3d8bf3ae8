"""The S3 server of the tests keeps the promise that a stage's commit rests on: a conditional put creates, and never replaces."""

import concurrent.futures
import uuid
from collections.abc import Iterator
from typing import Any

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError
from tests.conftest import ObjectStore

pytestmark = pytest.mark.cluster


@pytest.fixture
def client(object_store: ObjectStore) -> Any:
    """A client with the server's root credentials; no retries, which would hide a lost answer."""
    return boto3.client(
        "s3",
        endpoint_url=object_store.endpoint,
        aws_access_key_id=object_store.access_key_id,
        aws_secret_access_key=object_store.secret_access_key,
        region_name="us-east-1",
        config=Config(retries={"total_max_attempts": 1}, s3={"addressing_style": "path"}),
    )


@pytest.fixture
def bucket(client: Any) -> Iterator[str]:
    """A new bucket, emptied and deleted afterwards."""
    name = f"test-{uuid.uuid4().hex[:8]}"
    client.create_bucket(Bucket=name)
    yield name
    for item in client.list_objects_v2(Bucket=name).get("Contents", []):
        client.delete_object(Bucket=name, Key=item["Key"])
    client.delete_bucket(Bucket=name)


def create(client: Any, bucket: str, key: str, body: bytes) -> int:
    """Put only if nothing is there; the HTTP status of the answer."""
    try:
        answer = client.put_object(Bucket=bucket, Key=key, Body=body, IfNoneMatch="*")
    except ClientError as error:
        answer = error.response
    return int(answer["ResponseMetadata"]["HTTPStatusCode"])


def test_second_conditional_put_is_refused_and_changes_nothing(client: Any, bucket: str) -> None:
    """200, then 412, and the first body stays."""
    key = "stages/train-0123/manifest.json"
    assert create(client, bucket, key, b"first") == 200
    assert create(client, bucket, key, b"second") == 412
    assert client.get_object(Bucket=bucket, Key=key)["Body"].read() == b"first"


def test_conditional_put_works_again_after_delete(client: Any, bucket: str) -> None:
    """The condition is about what is there now."""
    assert create(client, bucket, "manifest.json", b"first") == 200
    client.delete_object(Bucket=bucket, Key="manifest.json")
    assert create(client, bucket, "manifest.json", b"second") == 200


def test_of_racing_conditional_puts_one_wins(client: Any, bucket: str) -> None:
    """Sixteen writers at once: one 200, the rest 412 or 409 (a conflict that S3 allows), and the body is the winner's."""
    with concurrent.futures.ThreadPoolExecutor(16) as pool:
        statuses = list(pool.map(lambda writer: create(client, bucket, "manifest.json", b"%d" % writer), range(16)))
    assert statuses.count(200) == 1
    assert set(statuses) <= {200, 409, 412}
    assert client.get_object(Bucket=bucket, Key="manifest.json")["Body"].read() == b"%d" % statuses.index(200)


def test_multipart_upload_completes_conditionally(client: Any, bucket: str) -> None:
    """Large files commit in the same way."""
    create(client, bucket, "model.safetensors", b"there first")
    upload = client.create_multipart_upload(Bucket=bucket, Key="model.safetensors")["UploadId"]
    part = client.upload_part(Bucket=bucket, Key="model.safetensors", UploadId=upload, PartNumber=1, Body=b"late")
    with pytest.raises(ClientError, match="PreconditionFailed"):
        client.complete_multipart_upload(
            Bucket=bucket,
            Key="model.safetensors",
            UploadId=upload,
            MultipartUpload={"Parts": [{"PartNumber": 1, "ETag": part["ETag"]}]},
            IfNoneMatch="*",
        )
    client.abort_multipart_upload(Bucket=bucket, Key="model.safetensors", UploadId=upload)

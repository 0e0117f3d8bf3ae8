"""The S3 server of the tests keeps the promise that a stage's commit rests on: a conditional put creates, and never replaces."""

import concurrent.futures
from typing import Any

import pytest
from botocore.exceptions import ClientError

pytestmark = pytest.mark.cluster


def create(s3: Any, bucket: str, key: str, body: bytes) -> int:
    """Put only if nothing is there; the HTTP status of the answer."""
    try:
        answer = s3.put_object(Bucket=bucket, Key=key, Body=body, IfNoneMatch="*")
    except ClientError as error:
        answer = error.response
    return int(answer["ResponseMetadata"]["HTTPStatusCode"])


def test_second_conditional_put_is_refused_and_changes_nothing(s3: Any, bucket: str) -> None:
    """200, then 412, and the first body stays."""
    key = "stages/train-0123/manifest.json"
    assert create(s3, bucket, key, b"first") == 200
    assert create(s3, bucket, key, b"second") == 412
    assert s3.get_object(Bucket=bucket, Key=key)["Body"].read() == b"first"


def test_conditional_put_works_again_after_delete(s3: Any, bucket: str) -> None:
    """The condition is about what is there now."""
    assert create(s3, bucket, "manifest.json", b"first") == 200
    s3.delete_object(Bucket=bucket, Key="manifest.json")
    assert create(s3, bucket, "manifest.json", b"second") == 200


def test_of_racing_conditional_puts_one_wins(s3: Any, bucket: str) -> None:
    """Sixteen writers at once: one 200, the rest 412 or 409 (a conflict that S3 allows), and the body is the winner's."""
    with concurrent.futures.ThreadPoolExecutor(16) as pool:
        statuses = list(pool.map(lambda writer: create(s3, bucket, "manifest.json", b"%d" % writer), range(16)))
    assert statuses.count(200) == 1
    assert set(statuses) <= {200, 409, 412}
    assert s3.get_object(Bucket=bucket, Key="manifest.json")["Body"].read() == b"%d" % statuses.index(200)


def test_multipart_upload_completes_conditionally(s3: Any, bucket: str) -> None:
    """Large files commit in the same way."""
    create(s3, bucket, "model.safetensors", b"there first")
    upload = s3.create_multipart_upload(Bucket=bucket, Key="model.safetensors")["UploadId"]
    part = s3.upload_part(Bucket=bucket, Key="model.safetensors", UploadId=upload, PartNumber=1, Body=b"late")
    with pytest.raises(ClientError, match="PreconditionFailed"):
        s3.complete_multipart_upload(
            Bucket=bucket,
            Key="model.safetensors",
            UploadId=upload,
            MultipartUpload={"Parts": [{"PartNumber": 1, "ETag": part["ETag"]}]},
            IfNoneMatch="*",
        )
    s3.abort_multipart_upload(Bucket=bucket, Key="model.safetensors", UploadId=upload)

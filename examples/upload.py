"""Uploads an example's folder to the object store: `python examples/upload.py examples/arithmetic s3://examples/arithmetic models`.

Buckets that are named after it are created for the results, where they are not there.
Endpoint and keys come from AWS_ENDPOINT_URL, AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY.
"""

import sys
from pathlib import Path
from urllib.parse import urlsplit

import boto3


def main() -> None:
    """Create the buckets that are missing, and put every data and model file of the folder."""
    folder, target = Path(sys.argv[1]), urlsplit(sys.argv[2])
    client = boto3.client("s3")
    for bucket in {target.netloc, *sys.argv[3:]} - {bucket["Name"] for bucket in client.list_buckets()["Buckets"]}:
        client.create_bucket(Bucket=bucket)
    kinds = {".json", ".jsonl", ".safetensors", ".jinja", ".gguf", ".txt"}
    files = sorted(p for p in folder.rglob("*") if p.is_file() and p.suffix in kinds)
    for path in files:
        client.upload_file(str(path), target.netloc, f"{target.path.strip('/')}/{path.relative_to(folder)}")
    print(f"{len(files)} files are at {sys.argv[2]}")


if __name__ == "__main__":
    main()

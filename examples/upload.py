"""Uploads an example's folder to the object store: `python examples/upload.py examples/arithmetic s3://examples/arithmetic`.

Endpoint and keys come from AWS_ENDPOINT_URL, AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY.
"""

import sys
from pathlib import Path
from urllib.parse import urlsplit

import boto3


def main() -> None:
    """Create the bucket if it is not there, and put every data and model file of the folder."""
    folder, target = Path(sys.argv[1]), urlsplit(sys.argv[2])
    client = boto3.client("s3")
    if target.netloc not in {bucket["Name"] for bucket in client.list_buckets()["Buckets"]}:
        client.create_bucket(Bucket=target.netloc)
    files = sorted(p for p in folder.rglob("*") if p.is_file() and p.suffix in {".json", ".jsonl", ".safetensors", ".jinja", ".gguf", ".txt"})
    for path in files:
        client.upload_file(str(path), target.netloc, f"{target.path.strip('/')}/{path.relative_to(folder)}")
    print(f"{len(files)} files are at {sys.argv[2]}")


if __name__ == "__main__":
    main()

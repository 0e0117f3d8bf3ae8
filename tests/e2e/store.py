"""What lies in the object store."""

from typing import Any
from urllib.parse import urlsplit


def objects_under(s3: Any, uri: str) -> set[str]:
    """Keys below a URI, relative to it."""
    parts = urlsplit(uri)
    prefix = parts.path.strip("/") + "/"
    pages = s3.get_paginator("list_objects_v2").paginate(Bucket=parts.netloc, Prefix=prefix)
    return {item["Key"].removeprefix(prefix) for page in pages for item in page.get("Contents", [])}

"""A teacher behind an OpenAI-compatible API: llama.cpp's own server. `python serve.py s3://bucket/folder [port]`.

The folder is in Hugging Face layout (written to GGUF first) or holds one .gguf file; a local path is taken as well. Runs until SIGTERM.
Endpoint and keys of the object store come from AWS_ENDPOINT_URL, AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY.
"""

import signal
import sys
import tempfile
import threading
from pathlib import Path
from urllib.parse import urlsplit

import boto3
import torch  # noqa: F401  (before llama.cpp, whose OpenMP runtime it brings)
import xllamacpp

from distillery_trainer.export import gguf

SLOTS = 4
CONTEXT = 1024


def fetched(uri: str, folder: Path) -> Path:
    """The files of a URI in a local folder."""
    if not uri.startswith("s3://"):
        return Path(uri)
    parts, client = urlsplit(uri), boto3.client("s3")
    prefix = parts.path.strip("/") + "/"
    for page in client.get_paginator("list_objects_v2").paginate(Bucket=parts.netloc, Prefix=prefix):
        for item in page.get("Contents", ()):
            path = folder / item["Key"].removeprefix(prefix)
            path.parent.mkdir(parents=True, exist_ok=True)
            client.download_file(parts.netloc, item["Key"], str(path))
    return folder


def gguf_file(folder: Path, scratch: Path) -> Path:
    """The model as GGUF, F16 where it has to be written."""
    if found := next(iter(sorted(folder.glob("*.gguf"))), None):
        return found
    file = scratch / "teacher.gguf"
    gguf.write(folder, file, "f16", name="teacher")
    return file


def main() -> None:
    """Serve until told to stop."""
    uri, port = sys.argv[1], int(sys.argv[2]) if len(sys.argv) > 2 else 8000
    stopping = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stopping.set())
    with tempfile.TemporaryDirectory() as scratch:
        params = xllamacpp.CommonParams()
        params.model.path = str(gguf_file(fetched(uri, Path(scratch) / "model"), Path(scratch)))
        params.hostnames, params.port = ["0.0.0.0"], port
        params.n_parallel, params.n_ctx = SLOTS, SLOTS * CONTEXT
        params.cpuparams.n_threads = params.cpuparams_batch.n_threads = 1
        params.cpuparams.poll = params.cpuparams_batch.poll = 0  # threads that wait sleep: other pods share these CPUs
        params.endpoint_metrics, params.use_jinja, params.ui, params.warmup = True, True, False, False
        params.n_gpu_layers, params.verbosity = 0, -1
        server = xllamacpp.Server(params)
        print(f"serving {uri} at {server.listening_address}", flush=True)
        stopping.wait()
        del server


if __name__ == "__main__":
    main()

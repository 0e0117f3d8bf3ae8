"""`distill watch < <(kubectl get dj NAME --watch -o json)`: progress bars of a job on a cluster, its tables at the end.

Not by a pipe: the shell would wait for kubectl, which notices at its next event only that its reader is gone.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, TextIO

from rich.console import Console

from distillery.api.reasons import SUCCEEDED
from distillery.api.status import DistillationJobStatus

from .view import Stages, print_results


def objects(stream: TextIO) -> Iterator[dict[str, Any]]:
    """The JSON objects that kubectl prints one after the other, each as soon as it is whole."""
    buffer, decoder = "", json.JSONDecoder()
    for line in stream:
        buffer += line
        if line.rstrip() != "}":  # kubectl indents: only an object's end stands at the line's start
            continue
        value, end = decoder.raw_decode(buffer.lstrip())
        buffer = buffer.lstrip()[end:]
        yield value


def watch(stream: TextIO, console: Console, until: str | None = None) -> int:
    """Draw until the job has ended, or has the condition `until` (TYPE=STATUS); 0 if so or if it succeeded, 1 if it failed, 2 if the
    stream ended first."""
    status, ended = DistillationJobStatus(), None
    with Stages(console) as stages:
        for item in objects(stream):
            status = DistillationJobStatus.model_validate(item.get("status", {}))
            stages.show(status)
            ended = next((c for c in status.conditions if c.type == SUCCEEDED and c.status != "Unknown"), None)
            if ended:
                break
            if met := next((c for c in status.conditions if f"{c.type}={c.status}" == until), None):
                console.print(f"{until}  {met.reason}: {met.message}", soft_wrap=True, highlight=False, markup=False)
                return 0
    print_results(status, console)
    if ended is None:
        console.print("the stream ended before the job did: run the command again")
        return 2
    console.print(f"{ended.type}={ended.status}  {ended.reason}: {ended.message}", soft_wrap=True, highlight=False, markup=False)
    return 0 if ended.status == "True" else 1

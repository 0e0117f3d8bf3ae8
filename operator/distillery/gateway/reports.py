"""The latest report of each running stage, in memory: what is lost with the process comes again within seconds."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Mapping
from typing import NamedTuple

from distillery.api.result import Progress


class JobId(NamedTuple):
    """One DistillationJob; a namesake that came later has another uid."""

    namespace: str
    name: str
    uid: str


class Reports:
    """At most `capacity` jobs, the least recently heard of is forgotten first; a report older than `seconds` is not told any more."""

    def __init__(self, clock: Callable[[], float], seconds: float = 3600.0, capacity: int = 10_000) -> None:
        self._clock = clock
        self._seconds = seconds
        self._capacity = capacity
        self._jobs: OrderedDict[JobId, dict[str, tuple[float, Progress]]] = OrderedDict()

    def put(self, job: JobId, report: Progress) -> None:
        """Keep a report in place of the stage's last one."""
        stages = self._jobs.setdefault(job, {})
        stages[report.stage] = (self._clock(), report)
        self._jobs.move_to_end(job)
        while len(self._jobs) > self._capacity:
            self._jobs.popitem(last=False)

    def of(self, job: JobId) -> Mapping[str, Progress]:
        """Stage name to its latest report."""
        since = self._clock() - self._seconds
        return {stage: report for stage, (time, report) in self._jobs.get(job, {}).items() if time > since}

    def __len__(self) -> int:
        """Jobs that are remembered."""
        return len(self._jobs)

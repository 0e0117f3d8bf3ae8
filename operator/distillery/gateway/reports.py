"""The latest report of each running stage, in memory: what is lost with the process comes again within seconds."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from distillery.api.result import Progress

from .identity import JobId


@dataclass
class _Run:
    """The reports of one batch Job, by shard."""

    name: str
    shards: dict[str, tuple[float, Progress]] = field(default_factory=dict)


class Reports:
    """At most `capacity` jobs, the least recently heard of is forgotten first; a report older than `seconds` is not told any more."""

    def __init__(self, clock: Callable[[], float], seconds: float = 3600.0, capacity: int = 10_000) -> None:
        self._clock = clock
        self._seconds = seconds
        self._capacity = capacity
        self._jobs: OrderedDict[JobId, dict[str, _Run]] = OrderedDict()

    def put(self, job: JobId, report: Progress, run: str = "", shard: str = "0") -> None:
        """Keep a report in place of the shard's last one; another run of the stage begins anew."""
        stages = self._jobs.setdefault(job, {})
        known = stages.get(report.stage)
        if known is None or known.name != run:
            known = stages[report.stage] = _Run(run)
        known.shards[shard] = (self._clock(), report)
        self._jobs.move_to_end(job)
        while len(self._jobs) > self._capacity:
            self._jobs.popitem(last=False)

    def of(self, job: JobId) -> Mapping[str, Progress]:
        """Stage name to its latest report, which sums up its shards."""
        since = self._clock() - self._seconds
        stages = {stage: [r for time, r in run.shards.values() if time > since] for stage, run in self._jobs.get(job, {}).items()}
        return {stage: summed(reports) for stage, reports in stages.items() if reports}

    def __len__(self) -> int:
        """Jobs that are remembered."""
        return len(self._jobs)


def summed(shards: Sequence[Progress]) -> Progress:
    """One report for all shards: what is done is added up, and the slowest tells how long it takes."""
    first = shards[0]
    if len(shards) == 1:
        return first
    done, total = (sum(getattr(shard, name) or 0 for shard in shards) for name in ("done", "total"))
    remaining = [shard.estimated_remaining_seconds for shard in shards if shard.estimated_remaining_seconds is not None]
    return first.model_copy(
        update={
            "done": done,
            "total": total,
            "percentage": min(100, 100 * done // total) if total else sum(shard.percentage for shard in shards) // len(shards),
            "estimated_remaining_seconds": max(remaining, default=None),
        }
    )

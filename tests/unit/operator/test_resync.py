"""The resync, in virtual time."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any, cast

import pytest

from distillery.cluster import BudgetKey, Cluster, Key, Unavailable
from distillery.metrics import Metrics
from distillery.resync import phase, resync

pytestmark = pytest.mark.looptime


def job(name: str, ttl: int | None = None, **conditions: str) -> dict[str, Any]:
    status = {"observedGeneration": 1, "conditions": [{"type": kind, "status": value} for kind, value in conditions.items()]}
    return {
        "metadata": {"namespace": "nlp", "name": name},
        "spec": {} if ttl is None else {"ttlSecondsAfterFinished": ttl},
        "status": status,
    }


JOBS = [
    {"metadata": {"namespace": "nlp", "name": "new"}, "spec": {}},
    job("running", Succeeded="Unknown", Suspended="False"),
    job("suspended", Succeeded="Unknown", Suspended="True"),
    job("done", Succeeded="True"),
    job("failed", Succeeded="False"),
    job("done with ttl", ttl=60, Succeeded="True"),
]
OWING = job("owing", Succeeded="True")
OWING["status"]["budgetClaimed"] = True
EDITED = job("edited since", Succeeded="True")
EDITED["metadata"]["generation"] = 2
JOBS += [OWING, EDITED]


class Listing:
    """The only methods of a cluster that a resync calls."""

    def __init__(self) -> None:
        self.times: list[float] = []
        self.down = False

    async def list_jobs(self) -> AsyncIterator[dict[str, Any]]:
        self.times.append(asyncio.get_running_loop().time())
        if self.down:
            raise Unavailable("connection refused")
        for body in JOBS:
            yield body

    async def list_budgets(self) -> AsyncIterator[dict[str, Any]]:
        yield {"metadata": {"namespace": "nlp", "name": "team"}}


async def run(listing: Listing, seconds: float, metrics: Metrics, jitter: float = 0.5) -> list[Key | BudgetKey]:
    added: list[Key | BudgetKey] = []
    task = asyncio.create_task(resync(cast(Cluster, listing), added.append, metrics, 300, lambda: jitter))
    await asyncio.sleep(seconds)
    task.cancel()
    return added


async def test_what_has_not_ended_and_what_is_to_be_deleted_is_added() -> None:
    added = await run(Listing(), 301, Metrics())
    assert [key.name for key in added if isinstance(key, Key)] == ["new", "running", "suspended", "done with ttl", "owing", "edited since"]
    assert BudgetKey("nlp", "team") in added


@pytest.mark.parametrize(("jitter", "first"), [(0.0, 270), (0.5, 300), (1.0, 330)])
async def test_the_time_between_two_varies_by_a_tenth(jitter: float, first: float) -> None:
    listing = Listing()
    await run(listing, 1000, Metrics(), jitter)
    assert listing.times == pytest.approx([first * n for n in range(1, len(listing.times) + 1)])


async def test_an_outage_is_waited_out() -> None:
    listing = Listing()
    listing.down = True
    assert await run(listing, 601, Metrics()) == []
    assert len(listing.times) == 2


async def test_jobs_are_counted_by_phase() -> None:
    metrics = Metrics()
    await run(Listing(), 301, metrics)
    counts = {
        name: metrics.registry.get_sample_value("distillery_jobs", {"phase": name})
        for name in ("Active", "Suspended", "Succeeded", "Failed")
    }
    assert counts == {"Active": 2, "Suspended": 1, "Succeeded": 4, "Failed": 1}


def test_a_phase_never_holds_a_word_of_the_tenant() -> None:
    assert phase({"status": {"phase": "Export-secret-project"}}) == "Active"

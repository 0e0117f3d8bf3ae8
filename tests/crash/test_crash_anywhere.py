"""R1 and R2: the operator dies at every call of every path, before and after the call took effect, and ends where it would have ended."""

from __future__ import annotations

import pytest
from tests.crash.history import ends_alike, history
from tests.crash.paths import PATHS


@pytest.mark.parametrize("path", PATHS)
async def test_dying_at_any_call_changes_nothing(path: str) -> None:
    make = PATHS[path]
    passes = await history(make())
    for start, (snapshot, calls) in enumerate(passes):
        for call in range(1, len(calls) + 1):
            for after in (False, True):
                world = make()
                world.restore(snapshot)
                world.cluster.kill_at, world.cluster.kill_after_effect = call, after
                assert await ends_alike(world, passes, start), f"pass {start}, call {call}, {'after' if after else 'before'} its effect"
                assert max(world.cluster.created.values()) == 1

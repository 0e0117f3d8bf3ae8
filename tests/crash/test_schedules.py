"""R2: random schedules of the operator, the cluster, the user and misfortune. Never two Jobs of one run; terminal is terminal; and if all
goes well from some moment on, the job ends."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Coroutine
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule, run_state_machine_as_test
from tests.crash.ends import End
from tests.crash.fake_cluster import Killed
from tests.crash.paths import QUEUED, mistake
from tests.crash.specs import BUDGET, ENDPOINT, EXPORTS, MINIMAL
from tests.crash.world import KEY, World

from distillery.cluster import ClusterError, Forbidden
from distillery.settings import STAGE_LABEL

SPECS = [
    MINIMAL, MINIMAL | EXPORTS, QUEUED, MINIMAL | {"activeDeadlineSeconds": 600}, MINIMAL | {"backoffLimit": 0}, ENDPOINT,
    ENDPOINT | {"activeDeadlineSeconds": 600}, ENDPOINT | {"scheduling": {"queueName": "gpus"}},
]  # fmt: skip
ENDS = [
    End(),
    End(),
    End(143),
    End(1, "Traceback"),
    End(75),
    End(76),
    End(137, reason="OOMKilled"),
    End(137, disrupted=True),
    End(137, lost=True),
    End(0, "no result"),
    mistake("BadInput", "no rows"),
]
EDITS: list[dict[str, Any]] = [
    {"training": {"learningRate": "0.001"}},
    {"exports": []},
    {"backoffLimit": 5},
    {"output": {"uri": "file:///tmp/x"}},
    {"output": MINIMAL["output"]},
    {"teacher": MINIMAL["teacher"], "budgetRef": None, "governance": None},
]


def at_once(coroutine: Coroutine[Any, Any, Any]) -> Any:
    """The result of a coroutine that waits for nothing; an event loop would cost more than the pass."""
    try:
        coroutine.send(None)
    except StopIteration as done:
        return done.value
    raise AssertionError("the coroutine waits for something")


def has_finished(job: dict[str, Any]) -> bool:
    """Whether a batch Job is complete or failed."""
    return bool(job.get("status", {}).get("conditions"))


class Schedules(RuleBasedStateMachine):
    """Each rule is one thing that may happen next."""

    @initialize(spec=st.sampled_from(SPECS))
    def begin(self, spec: dict[str, Any]) -> None:
        self.world = World(spec=spec, script=lambda stage, run: None, budget=BUDGET)
        self.ended: object = None

    @rule()
    def reconcile(self) -> None:
        self._reconcile()

    @rule(call=st.integers(1, 16), after=st.booleans())
    def die(self, call: int, after: bool) -> None:
        self.world.cluster.kill_at = len(self.world.cluster.calls) + call
        self.world.cluster.kill_after_effect = after
        self._reconcile()
        self.world.cluster.kill_at = None

    @rule(ticks=st.integers(1, 12))
    def all_goes_well_for_a_while(self, ticks: int) -> None:
        self.world.script = lambda stage, run: End()
        for _ in range(ticks):
            at_once(self.world.tick())
        self.world.script = lambda stage, run: None

    @rule()
    def settle(self) -> None:
        at_once(self.world.settle())

    @rule()
    def user_suspends_or_resumes(self) -> None:
        if not self.world.ended():
            self.world.edit(suspend=not self.world.job["spec"].get("suspend", False))

    @rule()
    def user_changes_his_mind(self) -> None:
        """Resumed while the last pod still writes its checkpoint."""
        for suspend in (True, False):
            if not self.world.ended():
                self.world.edit(suspend=suspend)
            at_once(self.world.settle())

    @rule(which=st.integers(0, 3))
    def reads_are_old(self, which: int) -> None:
        number = itertools.count()
        self.world.cluster.lag = lambda: next(number) == which
        self._reconcile()
        self.world.cluster.lag = lambda: False

    @rule()
    def refused(self) -> None:
        self.world.cluster.refuse = lambda body: Forbidden("exceeded quota") if body["kind"] == "Job" else None
        self._reconcile()
        self.world.cluster.refuse = lambda body: None

    @rule()
    def cluster_moves(self) -> None:
        self.world.step()

    @rule(end=st.sampled_from(ENDS), which=st.integers(0, 3))
    def pod_ends(self, end: End, which: int) -> None:
        live = [(job, pod) for job in self.world.jobs() for pod in self.world.pods(job) if pod["status"]["phase"] == "Running"]
        if live:
            job, pod = live[which % len(live)]
            self.world.end_pod(job, pod, end)

    @rule(which=st.integers(0, 3))
    def job_vanishes(self, which: int) -> None:
        """Not within the moment between create and status, see test_stale_reads."""
        known = {stage.get("jobName") for stage in self.world.status.get("stages", ()) if "runStartTime" in stage}
        jobs = [job for job in self.world.jobs() if job["metadata"]["name"] in known]
        if jobs:
            self.world.vanish(jobs[which % len(jobs)])

    @rule(edit=st.sampled_from(EDITS))
    def user_edits(self, edit: dict[str, Any]) -> None:
        free = "startTime" not in self.world.status or self.world.condition("Suspended")[0] == "True"
        if free or not {"training", "exports", "output", "teacher"} & set(edit):  # the CRD's rule
            self.world.edit(**edit)

    @rule(grants=st.booleans(), answers=st.booleans())
    def money_comes_and_goes(self, grants: bool, answers: bool) -> None:
        self.world.gateway.grants, self.world.gateway.answers = (lambda: grants), (lambda: answers)

    @rule()
    def platform_team_deletes_or_creates_the_budget(self) -> None:
        budget = self.world.cluster.objects.get(("TeacherBudget", KEY.namespace, "team"))
        if budget is None:
            self.world.grant(BUDGET)
        else:
            self.world.cluster.delete("TeacherBudget", KEY.namespace, "team", budget["metadata"]["uid"])

    @rule(allows=st.booleans())
    def terms_change(self, allows: bool) -> None:
        if ("TeacherBudget", KEY.namespace, "team") in self.world.cluster.objects:
            terms = {"service": "ours" if allows else "theirs"}
            self.world.grant(BUDGET | {"teachers": [BUDGET["teachers"][0] | {"terms": terms}]})

    @precondition(lambda self: self.world.passes > 12)
    @rule()
    def user_cancels(self) -> None:
        self.world.edit(cancel=True)

    @rule(seconds=st.sampled_from([1, 15, 31, 400]))
    def time_passes(self, seconds: int) -> None:
        self.world.now += timedelta(seconds=seconds)

    def _reconcile(self) -> None:
        with contextlib.suppress(Killed, ClusterError):
            at_once(self.world.reconcile())

    @invariant()
    def no_run_has_two_jobs(self) -> None:
        assert max(count for (kind, _, _), count in self.world.cluster.created.items() if kind != "TeacherBudget") == 1

    @invariant()
    def no_stage_has_two_unfinished_jobs(self) -> None:
        live = [job["metadata"]["labels"][STAGE_LABEL] for job in self.world.jobs() if not has_finished(job)]
        assert len(live) == len(set(live))

    @invariant()
    def money_is_set_aside_only_where_the_status_says_so(self) -> None:
        assert self.world.status.get("budgetClaimed") or not self.world.reserved()

    @invariant()
    def the_end_is_the_end(self) -> None:
        if self.world.ended():
            verdict = self.world.condition("Succeeded")
            assert self.ended in (None, verdict)
            self.ended = verdict

    def teardown(self) -> None:
        """From now on all goes well, and the job must end."""
        if not hasattr(self, "world"):
            return
        self.world.passes = 0
        self._what_is_to_stop_stops()
        self.world.script = lambda stage, run: End()
        self.world.grant(BUDGET)
        self.money_comes_and_goes(True, True)
        if not self.world.ended():
            self.world.edit(suspend=False, output=MINIMAL["output"])
        at_once(self.world.run())
        assert self.world.ended()
        assert not self.world.reserved()
        assert all(has_finished(job) for job in self.world.jobs())
        self.no_run_has_two_jobs()
        self.the_end_is_the_end()

    def _what_is_to_stop_stops(self) -> None:
        """Though no pod ends by itself."""
        stops = self.world.ended() or self.world.job["spec"].get("suspend") or self.world.job["spec"].get("cancel")
        for _ in range(8 if stops else 0):
            at_once(self.world.tick())
        if stops:
            assert self.world.ended() or self.world.condition("Suspended")[0] == "True"
            assert all(has_finished(job) for job in self.world.jobs())


def schedules(number: int) -> settings:
    """So many random schedules."""
    return settings(max_examples=number, stateful_step_count=30, deadline=None, suppress_health_check=list(HealthCheck))


def test_random_schedules() -> None:
    run_state_machine_as_test(Schedules, settings=schedules(50))  # type: ignore[no-untyped-call]


@pytest.mark.slow
def test_ten_thousand_random_schedules() -> None:
    run_state_machine_as_test(Schedules, settings=schedules(10_000))  # type: ignore[no-untyped-call]

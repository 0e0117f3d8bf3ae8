"""A job that buys answers: what it claims, when it waits for money or permission, what it shows, when it gives back."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from tests.unit.operator.objects import COUNTED, DIGESTS, ENDPOINT_SPEC, SETTINGS, SPEC, Story, ended, pod, says

from distillery.allowance import Allowance
from distillery.api.governance import PolicyVerdict
from distillery.api.hashes import stage_hashes
from distillery.api.job import DistillationJobSpec
from distillery.api.result import Progress
from distillery.api.status import CostEstimate, TeacherUsage
from distillery.api.usage import Reservation, ReservationRequest
from distillery.conditions import Verdict
from distillery.decide import Decision
from distillery.decide.claim import claim
from distillery.observe import Observed, Silence
from distillery.plan import make_plan

INSTALLED = replace(SETTINGS, gateway_url="http://gateway")
PERMIT = PolicyVerdict(verdict="permit", terms=["ours"], message="go ahead")
PERMITTED = Allowance(policy=PERMIT)
FORBIDDEN = Allowance(refusal=Verdict("False", "TermsForbidUse", "section 1: no"), policy=PERMIT.model_copy(update={"verdict": "deny"}))
LACKING = Allowance(lack=Verdict("False", "BudgetMissing", 'TeacherBudget "team" does not exist in namespace "team-a"'))
GRANTED = Reservation(state="Granted", reason="BudgetReserved")
REFUSED = Reservation(
    state="Refused", reason="BudgetExhausted", message="daily 2026-01-01: 10.00 USD are used up", resumes="2026-01-02T00:00:00Z"
)
SILENT = Silence("no answer in time")


class Purchase(Story):
    """A story in which the budget is there and, where the status has a claim, the gateway answers as `money` says."""

    def __init__(self, spec: dict[str, Any] | None = None) -> None:
        super().__init__(spec or ENDPOINT_SPEC, INSTALLED)
        self.allowance: Allowance = PERMITTED
        self.money: Reservation | Silence = GRANTED
        self.claims: list[str] = []

    def act(self, **observed: Any) -> Decision:
        seen = Observed(runs=self.runs, allowance=self.allowance)
        made = claim(self.job, make_plan(self.job.name, self.job.spec, self.settings), seen)
        if made is not None:
            self.claims.append(made.kind)
        return super().act(**{"allowance": self.allowance, "money": self.money if made else None, **observed})

    def buys(self) -> Purchase:
        """Lead on until the traces stage would run."""
        self.settle()
        self.finish("preflight")
        return self


def preflight_result() -> str:
    spec = DistillationJobSpec.model_validate(ENDPOINT_SPEC)
    return says(hashes=stage_hashes(spec, DIGESTS, "owner"), metrics=COUNTED)


def reserved(story: Story) -> tuple[str, str]:
    return story.condition("BudgetReserved")[:2]


def test_a_claim_is_noted_before_it_is_made_and_a_run_opened_only_when_it_is_granted() -> None:
    story = Purchase()
    story.settle()
    assert reserved(story) == ("Unknown", "WaitingForPreflight")
    story.change("preflight", finished="Complete", pods=(ended(0, preflight_result()),))
    story.act()
    assert (story.claims, story.job.status.budget_claimed, reserved(story)) == ([], True, ("Unknown", "WaitingForBudget"))
    assert story.act().requeue_after == 0
    assert (story.claims, reserved(story), story.stage("traces").state) == (["reserve"], ("True", "BudgetReserved"), "Pending")
    assert [body["spec"]["completions"] for body in story.act().create] == [3]
    assert story.claims == ["reserve", "reserve"]


def test_the_claim_is_of_what_preflight_counted() -> None:
    story = Purchase().buys()
    made = claim(story.job, make_plan("tiny", story.job.spec, INSTALLED), Observed(allowance=PERMITTED))
    assert made is not None
    assert made.need == ReservationRequest(requests=20, longest_prompt_bytes=900)


def test_a_preflight_that_does_not_count_is_of_another_version() -> None:
    story = Purchase()
    story.settle()
    story.finish("preflight", metrics=[])
    assert "metric requests, metric longestPromptBytes: trainer image and operator" in story.stage("preflight").message


@pytest.mark.parametrize(
    ("money", "status", "reason", "again", "words"),
    [
        (REFUSED, "False", "BudgetExhausted", 30, "resumes 2026-01-02T00:00:00Z"),
        (REFUSED.model_copy(update={"reason": "PriceUnknown"}), "False", "PriceUnknown", 30, "daily"),
        (SILENT, "Unknown", "GatewayUnavailable", 10, "no answer in time"),
    ],
)
def test_without_a_grant_nothing_is_created_and_the_job_says_why(
    money: Reservation | Silence, status: str, reason: str, again: float, words: str
) -> None:
    story = Purchase()
    story.money = money
    story.buys()
    assert story.condition("BudgetReserved")[:2] == (status, reason)
    assert words in story.condition("BudgetReserved")[2]
    assert (story.stage("traces").state, story.stage("traces").reason) == ("Waiting", reason)
    assert story.job.status.phase == reason
    decision = story.settle()
    assert (decision.create, decision.events, decision.requeue_after) == ((), (), again)
    story.money = GRANTED
    story.settle()
    assert story.stage("traces").state == "Running"


def test_a_refusal_between_announcement_and_creation_creates_nothing() -> None:
    story = Purchase()
    story.settle()
    story.change("preflight", finished="Complete", pods=(ended(0, preflight_result()),))
    story.act()
    story.act()
    assert story.stage("traces").job_name
    story.money = REFUSED
    assert story.settle().create == ()
    assert (story.stage("traces").state, story.stage("traces").runs) == ("Waiting", 1)
    story.money = GRANTED
    story.settle()
    assert (story.stage("traces").state, story.stage("traces").runs) == ("Running", 1)


def test_out_of_budget_costs_no_attempt_and_waits_for_the_next_grant() -> None:
    story = Purchase().buys()
    story.money = REFUSED
    decision = story.fail("traces", 76, says(reason="BudgetExhausted", message="daily is used up; resumes tomorrow"))
    stage = story.stage("traces")
    assert (stage.state, stage.attempts, stage.stale_runs, stage.runs) == ("Waiting", 0, 0, 1)
    assert [event["reason"] for event in decision.events] == ["BudgetExhausted"]
    assert reserved(story) == ("False", "BudgetExhausted")
    story.wait(3600)
    assert story.settle().create == ()
    story.money = GRANTED
    decision = story.settle()
    assert (story.stage("traces").state, story.stage("traces").runs) == ("Running", 2)


def test_a_run_that_ends_for_want_of_money_though_it_is_granted_is_not_repeated_in_a_loop() -> None:
    story = Purchase().buys()
    story.fail("traces", 76)
    assert (story.settle().create, story.stage("traces").state) == ((), "Waiting")
    story.wait(10)
    story.settle()
    assert story.stage("traces").runs == 2


def test_preflight_that_may_not_ask_waits_longer_each_time() -> None:
    story = Purchase()
    story.settle()
    for run, seconds in ((1, 10), (2, 20), (3, 40)):
        story.fail("preflight", 76, says(reason="CredentialMissing", message="create the Secret"))
        assert (story.stage("preflight").state, story.stage("preflight").reason) == ("Waiting", "CredentialMissing")
        assert story.condition("BudgetReserved") == ("False", "CredentialMissing", "create the Secret")
        assert story.job.status.phase == "CredentialMissing"
        story.wait(seconds - 1)
        assert story.settle().create == ()
        story.wait(1)
        story.settle()
        assert (story.stage("preflight").runs, story.stage("preflight").attempts) == (run + 1, 0)


def test_time_without_a_budget_is_no_time_of_work() -> None:
    story = Purchase(ENDPOINT_SPEC | {"activeDeadlineSeconds": 600})
    story.money = REFUSED
    story.buys()
    story.wait(3600)
    story.settle()
    assert story.condition("Succeeded")[0] == "Unknown"
    story.money = GRANTED
    story.settle()
    story.wait(600)
    story.settle()
    assert story.condition("Succeeded")[:2] == ("False", "DeadlineExceeded")


def test_what_is_left_is_given_back_when_the_traces_are_there() -> None:
    story = Purchase().buys()
    story.money = GRANTED.model_copy(update={"usage": TeacherUsage(requests=18, cache_hits=2, cost="0.42")})
    story.finish("traces", manifest="s3://models/tiny/stages/traces/manifest.json")
    assert story.claims[-1] == "give back"
    assert (story.job.status.budget_claimed, reserved(story)) == (None, ("True", "Released"))
    assert "0.42 USD was paid" in story.condition("BudgetReserved")[2]
    asked = len(story.claims)
    story.settle()
    assert len(story.claims) == asked


def test_giving_back_is_tried_until_the_gateway_answers_and_delays_nothing() -> None:
    story = Purchase().buys()
    story.money = SILENT
    decision = story.finish("traces", manifest="s3://models/tiny/stages/traces/manifest.json")
    assert (story.stage("curate").state, story.job.status.budget_claimed, decision.requeue_after) == ("Running", True, 10)
    story.money = GRANTED
    story.settle()
    assert story.job.status.budget_claimed is None


def test_a_job_that_has_ended_gives_back_and_shows_what_it_has_cost() -> None:
    story = Purchase().buys()
    story.edit(cancel=True)
    story.settle()
    story.change("traces", deleting=True)
    assert (story.condition("Succeeded")[1], story.claims.count("give back")) == ("Cancelled", 0)
    story.change("traces", finished="Failed", pods=(ended(143),))
    story.money = GRANTED.model_copy(update={"usage": TeacherUsage(requests=3, cost="0.07")})
    story.settle()
    assert (story.claims[-1], story.job.status.budget_claimed, reserved(story)) == ("give back", None, ("False", "Released"))
    assert story.job.status.teacher_usage is not None
    assert story.job.status.teacher_usage.cost == "0.07"


def test_a_suspended_job_gives_back_when_its_last_pod_is_gone_and_claims_anew() -> None:
    story = Purchase().buys()
    story.change("traces", pods=(pod(),))
    story.edit(suspend=True)
    story.settle()
    assert story.claims[-1] == "reserve"
    story.runs.clear()
    story.settle()
    assert (story.claims[-1], reserved(story)) == ("give back", ("False", "Released"))
    story.edit(suspend=False)
    story.settle()
    assert (story.claims[-1], story.stage("traces").state, story.stage("traces").runs) == ("reserve", "Running", 2)


def test_a_job_that_is_suspended_from_the_start_is_not_refused_anything() -> None:
    story = Purchase(ENDPOINT_SPEC | {"suspend": True})
    story.settle()
    assert reserved(story) == ("Unknown", "NothingToBuy")


def test_traces_that_are_there_already_cost_nothing() -> None:
    story = Purchase()
    story.settle()
    story.finish("preflight", reused=["traces"], metrics=[])
    assert (story.claims, reserved(story), story.stage("curate").state) == ([], ("True", "NothingToBuy"), "Running")


def test_a_teacher_of_open_weights_needs_no_budget() -> None:
    story = Story(SPEC)
    story.settle()
    assert reserved(story) == ("True", "NothingToBuy")


def test_terms_that_forbid_stop_every_stage_and_heal() -> None:
    story = Purchase()
    story.allowance = FORBIDDEN
    decision = story.act()
    assert story.condition("Validated") == ("False", "TermsForbidUse", "section 1: no")
    assert [event["reason"] for event in decision.events] == ["TermsForbidUse"]
    assert [story.condition(kind)[:2] for kind in ("Stalled", "Reconciling")] == [("True", "TermsForbidUse"), ("False", "TermsForbidUse")]
    assert (story.settle().create, story.job.status.start_time, story.job.status.phase) == ((), None, "TermsForbidUse")
    assert story.job.status.policy is not None
    assert story.job.status.policy.verdict == "deny"
    story.allowance = PERMITTED
    story.buys()
    assert story.stage("traces").state == "Running"
    assert story.condition("Validated")[0] == "True"


def test_terms_that_change_midway_let_pods_end_and_start_no_other() -> None:
    story = Purchase().buys()
    story.allowance = FORBIDDEN
    story.finish("traces", manifest="s3://models/tiny/stages/traces/manifest.json")
    assert (story.stage("curate").state, story.condition("Validated")[1]) == ("Pending", "TermsForbidUse")
    story.allowance = PERMITTED
    story.settle()
    assert story.stage("curate").state == "Running"


def test_a_missing_budget_is_waited_for() -> None:
    story = Purchase()
    story.allowance = LACKING
    story.settle()
    assert reserved(story) == ("False", "BudgetMissing")
    assert story.condition("Validated")[:2] == ("Unknown", "Pending")
    assert story.condition("Stalled")[0] == "False"
    assert story.condition("Reconciling") == ("True", *LACKING.lack[1:])  # type: ignore[misc]
    assert (story.settle().create, story.job.status.phase) == ((), "BudgetMissing")
    story.allowance = PERMITTED
    story.buys()
    assert story.stage("traces").state == "Running"


def test_a_budget_that_is_deleted_once_all_is_bought_stops_nothing() -> None:
    story = Purchase().buys()
    story.finish("traces", manifest="s3://models/tiny/stages/traces/manifest.json")
    story.allowance = LACKING
    story.finish("curate")
    assert (story.stage("train").state, reserved(story)) == ("Running", ("True", "Released"))


def test_usage_is_written_with_progress_and_not_more_often() -> None:
    story = Purchase().buys()
    story.change("traces", pods=(pod(),))
    story.settle()
    writes, before = 0, story.job.status
    for second in range(300):
        story.money = GRANTED.model_copy(update={"usage": TeacherUsage(requests=second, cost=f"0.{second:03d}")})
        report = Progress(stage="traces", percentage=second // 3, done=second)
        story.act(progress={"traces": report})
        writes += story.job.status != before
        before = story.job.status
        story.wait(1)
    assert 300 / 30 - 1 <= writes <= 300 / 30 + 1
    assert story.job.status.teacher_usage is not None
    assert story.job.status.teacher_usage.requests >= 270


def test_an_estimate_stays_when_the_gateway_has_none() -> None:
    story = Purchase().buys()
    told = CostEstimate(requests=20, sampled=8, input_tokens=1, output_tokens=1, cost="1.00", low="0.90", high="1.10")
    story.money = GRANTED.model_copy(update={"estimate": told})
    story.settle()
    story.money = GRANTED
    story.finish("traces", manifest="s3://models/tiny/stages/traces/manifest.json")
    assert story.job.status.estimate == told


def test_a_gateway_that_is_gone_for_a_moment_changes_no_condition_while_pods_ask() -> None:
    story = Purchase().buys()
    story.change("traces", pods=(pod(),))
    story.settle()
    before = story.job.status
    story.money = SILENT
    story.wait(5)
    assert (story.settle().requeue_after, story.job.status) == (10, before)


def test_one_shard_of_many_tells_the_result_and_the_first_failure_tells_why() -> None:
    story = Purchase().buys()
    made = ended(0, says(message="assembled", manifest="s3://models/tiny/stages/traces/manifest.json"))
    shards = tuple(replace(p, name=f"pod-{n}", shard=n) for n, p in enumerate((ended(0, says(message="mine")), made, ended(0, says()))))
    story.change("traces", finished="Complete", pods=shards)
    story.settle()
    assert (story.stage("traces").state, story.stage("traces").message) == ("Succeeded", "assembled")

    story = Purchase().buys()
    first = ended(75, says(reason="StoreUnavailable", message="503"), finished_at="2026-01-01T12:00:01Z")
    stopped = ended(143, finished_at="2026-01-01T12:00:02Z")
    story.change("traces", finished="Failed", pods=(stopped, first, ended(1, "late", finished_at="2026-01-01T12:00:03Z")))
    story.act()
    assert (story.stage("traces").reason, story.stage("traces").attempts) == ("StoreUnavailable", 1)


def test_many_shards_that_are_preempted_once_are_no_loop() -> None:
    story = Purchase(ENDPOINT_SPEC | {"teacher": {"endpoint": {"teacher": "gpt-x", "shards": 30}}}).buys()
    lost = [ended(137, disrupted="PreemptionByScheduler", name=f"lost-{n}", shard=n) for n in range(30)]
    going = [pod(name=f"pod-{n}", shard=n) for n in range(30)]
    story.change("traces", pods=tuple(lost + going))
    story.settle()
    assert story.stage("traces").state == "Running"

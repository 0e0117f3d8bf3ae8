"""Which watch events lead to a pass: none that a pass may act on is left out."""

from __future__ import annotations

from typing import Any

import pytest

from distillery import news as module
from distillery.cluster import Body
from distillery.news import News, facts

LABELS, ANNOTATIONS = {"distillery.dev/stage": "train"}, {"distillery.dev/hash": "h", "distillery.dev/run": "1"}


def child(version: int, conditions: list[Body] | None = None, suspend: bool = False, uid: str = "u", **status: Any) -> Body:
    """A batch Job at a version."""
    meta = {"uid": uid, "resourceVersion": str(version), "labels": LABELS, "annotations": ANNOTATIONS}
    return {"metadata": meta, "spec": {"suspend": suspend}, "status": status | ({"conditions": conditions} if conditions else {})}


def ended(kind: str) -> list[Body]:
    return [{"type": kind, "status": "True"}]


def test_a_stage_that_goes_well_is_news_twice() -> None:
    news = News()
    created = child(1)
    news.wrote(created)
    way = [
        created,
        child(2, startTime="t", active=1, ready=0),
        child(3, startTime="t", active=1, ready=1),
        child(4, startTime="t", uncountedTerminatedPods={"succeeded": ["p"]}, ready=0),
        child(5, startTime="t", ready=0, succeeded=1, conditions=[{"type": "SuccessCriteriaMet", "status": "True"}]),
        child(6, startTime="t", ready=0, succeeded=1, conditions=ended("Complete")),
    ]
    assert [news.of_child(body, gone=False) for body in way] == [False, False, True, False, False, True]


@pytest.mark.parametrize(("began", "is_news"), [("2026-01-01T12:00:29Z", False), ("2026-01-01T12:00:30Z", True)])
def test_a_job_that_its_controller_begins_late_is_news(began: str, is_news: bool) -> None:
    """A pass has said by then that it waits for it, and looks again only when it is told."""
    news = News()
    way = [child(1), child(2, startTime=began, active=1), child(3, startTime=began, active=1)]
    for body in way:
        body["metadata"]["creationTimestamp"] = "2026-01-01T12:00:00Z"
    assert [news.of_child(body, gone=False) for body in way] == [True, is_news, False]


@pytest.mark.parametrize(
    "then",
    [
        child(9, active=1, ready=0),
        child(9, active=1, ready=1, failed=1),
        child(9, active=1, ready=1, terminating=1),
        child(9, active=1, ready=1, succeeded=1),
        child(9, active=1, ready=1, suspend=True),
        child(9, active=1, ready=1, conditions=ended("Failed")),
        child(9, active=1, ready=1, uncountedTerminatedPods={"failed": ["p"]}, conditions=ended("Complete")),
        {**child(9, active=1, ready=1), "metadata": {**child(9)["metadata"], "deletionTimestamp": "now"}},
        {**child(9, active=1, ready=1), "metadata": {**child(9)["metadata"], "annotations": {}}},
        child(9, uid="of a namesake", active=1, ready=1),
    ],
)
def test_what_a_pass_reads_is_news_when_it_changes(then: Body) -> None:
    news = News()
    assert news.of_child(child(8, active=1, ready=1), gone=False)
    assert not news.of_child(child(9, active=1, ready=1), gone=False)
    assert news.of_child(then, gone=False)


def test_a_job_that_is_gone_is_news_and_its_end_is_not_remembered() -> None:
    news = News()
    assert news.of_child(child(1, conditions=ended("Complete")), gone=False)
    assert news.of_child(child(1, conditions=ended("Complete")), gone=False)
    assert news.of_child(child(1), gone=True)


def test_a_job_that_another_process_created_is_news_from_the_first_event_on() -> None:
    assert News().of_child(child(1), gone=False)


def test_a_job_that_a_queue_holds_back_is_news_when_it_is_created() -> None:
    news = News()
    news.wrote(child(1, suspend=True))
    way = [child(1, suspend=True), child(2, suspend=True, startTime="t"), child(3, startTime="t")]
    assert [news.of_child(body, gone=False) for body in way] == [True, False, True]


SETTLED = {"spec": {}, "status": {"observedGeneration": 1, "conditions": [{"type": "Succeeded", "status": "False"}]}}


def test_a_job_that_is_settled_is_no_news_nor_are_its_ended_children() -> None:
    news = News()
    over, left = (child(2, uid=uid, conditions=kind) for uid, kind in (("over", ended("Complete")), ("left", None)))
    for body in (over, left):
        body["metadata"]["labels"] = LABELS | {"distillery.dev/uid": "dj"}
    assert news.of_child(over, gone=False), "it may come first"
    assert not news.of_job({"metadata": {"uid": "dj", "resourceVersion": "9"}, **SETTLED})
    assert not news.of_child(over, gone=False)
    assert news.of_child(left, gone=False), "what runs on is to be deleted"
    assert news.of_child(child(2, uid="of another", conditions=ended("Complete")), gone=False)


@pytest.mark.parametrize(
    "change",
    [
        {"spec": {"ttlSecondsAfterFinished": 0}},
        {"status": SETTLED["status"] | {"budgetClaimed": True}},
        {"status": {"conditions": [{"type": "Succeeded", "status": "Unknown"}]}},
        {"status": {}},
        {"metadata": {"uid": "dj", "resourceVersion": "9", "generation": 2}},
    ],
)
def test_a_job_for_which_something_is_to_be_done_is_news(change: Body) -> None:
    assert News().of_job({"metadata": {"uid": "dj", "resourceVersion": "9"}, **SETTLED, **change})


def test_our_own_write_is_no_news_and_any_other_version_is() -> None:
    news = News()
    for version in (4, 5):
        news.wrote({"metadata": {"uid": "u", "resourceVersion": str(version)}})
    assert [news.of_job({"metadata": {"uid": "u", "resourceVersion": str(v)}}) for v in (3, 4, 5, 6)] == [True, False, False, True]
    assert news.of_job({"metadata": {"uid": "other", "resourceVersion": "4"}})


def test_what_is_forgotten_is_news(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST_SEEN", 1)
    monkeypatch.setattr(module, "MOST_WRITTEN", 1)
    news = News()
    for uid in ("a", "b"):
        news.wrote({"metadata": {"uid": uid, "resourceVersion": "1"}})
        assert news.of_child(child(2, uid=uid), gone=False)
    assert news.of_child(child(3, uid="a"), gone=False)
    assert news.of_job({"metadata": {"uid": "a", "resourceVersion": "1"}})
    assert not news.of_job({"metadata": {"uid": "b", "resourceVersion": "1"}})


def test_half_filled_objects_of_other_versions_do_not_raise() -> None:
    assert facts({"metadata": {"labels": None}, "spec": None, "status": None})[5:] == (0, 0, 0, False)

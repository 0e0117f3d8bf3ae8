"""What the gateway counts about queries. No label ever holds a word that a tenant or a provider chose."""

from __future__ import annotations

from prometheus_client import Counter, Histogram

from distillery.metrics import Metrics

_FAST = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5)
_SLOW = (0.01, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600)


class GatewayMetrics:
    """In the registry of the process."""

    def __init__(self, metrics: Metrics) -> None:
        registry = metrics.registry
        self.requests = Counter(
            "distillery_teacher_requests",
            "Queries by what became of them: settled, unanswered (settled too), released, in_doubt, overrun, hit, joined, refused.",
            ["outcome"],
            registry=registry,
        )
        self.refusals = Counter("distillery_teacher_refusals", "Queries that were refused, by reason.", ["reason"], registry=registry)
        self.lost = Counter(
            "distillery_answers_lost",
            "Bought answers that are gone or damaged and bought anew, by why.",
            ["why"],
            registry=registry,
        )
        self.hold_seconds = Histogram(
            "distillery_ledger_hold_seconds", "From the wish for a hold to its commit.", buckets=_FAST, registry=registry
        )
        self.teacher_seconds = Histogram(
            "distillery_teacher_request_seconds", "From dispatch to the whole answer.", buckets=_SLOW, registry=registry
        )

"""Prometheus metrics of one process. No label ever holds a word that a tenant chose."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, generate_latest

_FAST = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2, 5, 10, 30, 60)


class Metrics:
    """Every metric of the control plane, in a registry of its own so that tests do not share state."""

    def __init__(self) -> None:
        registry = self.registry = CollectorRegistry()
        ProcessCollector(registry=registry)
        self.api_requests = Counter("distillery_api_requests", "Requests to the API server.", ["verb", "code"], registry=registry)
        self.api_seconds = Histogram("distillery_api_request_seconds", "Their duration.", ["verb"], buckets=_FAST, registry=registry)
        self.queue_depth = Gauge("distillery_workqueue_depth", "Keys that wait for a worker.", registry=registry)
        self.queue_seconds = Histogram(
            "distillery_workqueue_queue_duration_seconds", "Wait for a worker.", buckets=_FAST, registry=registry
        )
        self.queue_retries = Counter("distillery_workqueue_retries", "Keys put back after a failure.", registry=registry)
        self.reconciles = Counter("distillery_reconcile", "Passes over one job, by result.", ["result"], registry=registry)
        self.reconcile_seconds = Histogram("distillery_reconcile_seconds", "Their duration.", buckets=_FAST, registry=registry)
        self.event_to_action = Histogram(
            "distillery_event_to_action_seconds", "From a key's add to the end of its pass.", buckets=_FAST, registry=registry
        )
        self.leader = Gauge("distillery_leader", "1 where this replica leads.", registry=registry)
        self.jobs = Gauge("distillery_jobs", "DistillationJobs at the last resync.", ["phase"], registry=registry)
        self.resync_seconds = Gauge("distillery_resync_seconds", "Duration of the last resync.", registry=registry)
        self.gateway_reads = Counter("distillery_gateway_reads", "Reads of progress by the operator.", ["result"], registry=registry)
        self.progress_posts = Counter(
            "distillery_progress_posts", "Reports that reached the gateway, by verdict.", ["code"], registry=registry
        )
        self.progress_reports = Gauge("distillery_progress_reports", "Reports that the gateway holds.", registry=registry)

    def text(self) -> bytes:
        """The exposition format of Prometheus."""
        return generate_latest(self.registry)

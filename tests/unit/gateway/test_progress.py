"""Who may report progress, about what, and who may read it."""

from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from aiohttp.test_utils import TestClient, TestServer

from distillery.api.result import Progress
from distillery.cluster import NotFound, Unavailable
from distillery.gateway.door import Bearer, Door
from distillery.gateway.identity import Identities, JobId
from distillery.gateway.progress import LIMIT_BYTES, ProgressEndpoint
from distillery.gateway.reports import Reports
from distillery.gateway.server import application
from distillery.metrics import Metrics

REPORT = {"stage": "train", "percentage": 40, "done": 40, "total": 100, "unit": "steps", "checkpointStep": 30}
JOB = {"namespace": "nlp", "job": "arith", "uid": "dj-1"}


class ApiServerDouble:
    """One stage pod `arith-train` in namespace nlp with its whole chain; tests break a link of it."""

    def __init__(self) -> None:
        self.tokens: dict[str, dict[str, Any]] = {
            "pod": self.reviewed("nlp", "default", pod=("arith-train", "pod-1")),
            "operator": self.reviewed("distillery", "operator", pod=("operator-0", "pod-9")),
            "no-pod": self.reviewed("nlp", "default"),
            "stranger": self.reviewed("nlp", "default", pod=("web", "pod-2")),
            "wrong-audience": {"authenticated": True, "audiences": ["https://kubernetes.default.svc"], "user": {"username": "x"}},
            "person": {"authenticated": True, "audiences": ["distillery-gateway"], "user": {"username": "alice"}},
        }
        owner = {"apiVersion": "batch/v1", "kind": "Job", "name": "arith-train-job", "uid": "job-1", "controller": True}
        self.pods = {"arith-train": self.thing("arith-train", "pod-1", owner), "web": self.thing("web", "pod-2")}
        owner = {"apiVersion": "distillery.dev/v1alpha1", "kind": "DistillationJob", "name": "arith", "uid": "dj-1", "controller": True}
        self.jobs = {"arith-train-job": self.thing("arith-train-job", "job-1", owner, {"distillery.dev/stage": "train"})}
        self.distillation_jobs = {"arith": self.thing("arith", "dj-1")}
        self.reviews = 0
        self.down = False

    @staticmethod
    def reviewed(namespace: str, name: str, pod: tuple[str, str] | None = None) -> dict[str, Any]:
        prefix = "authentication.kubernetes.io/pod"
        extra = {f"{prefix}-name": [pod[0]], f"{prefix}-uid": [pod[1]]} if pod else {}
        user = {"username": f"system:serviceaccount:{namespace}:{name}", "extra": extra}
        return {"authenticated": True, "audiences": ["distillery-gateway"], "user": user}

    @staticmethod
    def thing(name: str, uid: str, owner: dict[str, Any] | None = None, labels: dict[str, str] | None = None) -> dict[str, Any]:
        return {"metadata": {"name": name, "uid": uid, "labels": labels or {}, "ownerReferences": [owner] if owner else []}}

    async def review_token(self, token: str, audience: str) -> dict[str, Any]:
        self.reviews += 1
        if self.down:
            raise Unavailable("connection refused")
        assert audience == "distillery-gateway"
        return self.tokens.get(token, {"error": "unknown token"})

    async def get_pod(self, namespace: str, name: str) -> dict[str, Any]:
        return self.found(self.pods, namespace, name)

    async def get_child(self, kind: str, namespace: str, name: str) -> dict[str, Any]:
        assert kind == "Job"
        return self.found(self.jobs, namespace, name)

    async def get_job(self, namespace: str, name: str) -> dict[str, Any]:
        return self.found(self.distillation_jobs, namespace, name)

    @staticmethod
    def found(things: dict[str, dict[str, Any]], namespace: str, name: str) -> dict[str, Any]:
        if namespace != "nlp" or name not in things:
            raise NotFound(name)
        return things[name]


class Clock:
    """Seconds that pass when a test says so."""

    def __init__(self) -> None:
        self.time = 100.0

    def __call__(self) -> float:
        return self.time


@pytest.fixture
def api_server() -> ApiServerDouble:
    return ApiServerDouble()


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def client(api_server: ApiServerDouble, clock: Clock) -> AsyncIterator[TestClient[Any, Any]]:
    door = Door(clock)
    endpoint = ProgressEndpoint(Identities(api_server, clock, door), Reports(clock), ("distillery", "operator"), Metrics())
    async with TestClient(TestServer(application(endpoint.routes(), door))) as found:
        yield found


async def post(client: TestClient[Any, Any], token: str | None, report: object = REPORT) -> tuple[int, str]:
    headers = {} if token is None else {"Authorization": f"Bearer {token}"}
    response = await client.post("/v1/progress", json=report, headers=headers)
    return response.status, "" if response.status == 204 else (await response.json())["error"]["reason"]


async def read(client: TestClient[Any, Any], token: str = "operator", **query: str) -> Any:
    response = await client.get("/v1/progress", params={**JOB, **query}, headers={"Authorization": f"Bearer {token}"})
    return await response.json() if response.status == 200 else (response.status, (await response.json())["error"]["reason"])


async def test_a_stage_pod_reports_and_the_operator_reads(client: TestClient[Any, Any]) -> None:
    assert await post(client, "pod") == (204, "")
    assert await read(client) == {"train": {**REPORT, "hash": "", "metrics": []}}


async def test_the_last_report_of_a_stage_is_told(client: TestClient[Any, Any]) -> None:
    await post(client, "pod")
    await post(client, "pod", {**REPORT, "percentage": 41})
    assert (await read(client))["train"]["percentage"] == 41


async def test_a_namesake_with_another_uid_has_no_progress(client: TestClient[Any, Any]) -> None:
    await post(client, "pod")
    assert await read(client, uid="dj-2") == {}


@pytest.mark.parametrize(
    ("token", "refusal"),
    [
        (None, (401, "NoToken")),
        ("unknown", (401, "TokenInvalid")),
        ("wrong-audience", (401, "TokenInvalid")),
        ("person", (403, "NotAServiceAccount")),
        ("no-pod", (403, "NoPod")),
        ("stranger", (403, "NotAStagePod")),
        ("operator", (403, "Gone")),
    ],
)
async def test_who_may_not_report(client: TestClient[Any, Any], token: str | None, refusal: tuple[int, str]) -> None:
    assert await post(client, token) == refusal
    assert await read(client) == {}


def pod_is_gone(api_server: ApiServerDouble) -> None:
    del api_server.pods["arith-train"]


def pod_is_another(api_server: ApiServerDouble) -> None:
    api_server.pods["arith-train"]["metadata"]["uid"] = "pod-later"


def pod_names_a_job_by_name_only(api_server: ApiServerDouble) -> None:
    api_server.jobs["arith-train-job"]["metadata"]["uid"] = "job-later"


def pod_is_of_a_job_of_someone_else(api_server: ApiServerDouble) -> None:
    api_server.jobs["arith-train-job"]["metadata"]["ownerReferences"] = []


def job_is_of_a_cron_job(api_server: ApiServerDouble) -> None:
    api_server.jobs["arith-train-job"]["metadata"]["ownerReferences"][0] |= {"apiVersion": "batch/v1", "kind": "CronJob"}


def owner_is_no_controller(api_server: ApiServerDouble) -> None:
    api_server.jobs["arith-train-job"]["metadata"]["ownerReferences"][0]["controller"] = False


def distillation_job_is_a_namesake(api_server: ApiServerDouble) -> None:
    api_server.distillation_jobs["arith"]["metadata"]["uid"] = "dj-2"


@pytest.mark.parametrize(
    ("break_it", "reason"),
    [
        (pod_is_gone, "Gone"),
        (pod_is_another, "Gone"),
        (pod_names_a_job_by_name_only, "Gone"),
        (pod_is_of_a_job_of_someone_else, "NotAStagePod"),
        (job_is_of_a_cron_job, "NotAStagePod"),
        (owner_is_no_controller, "NotAStagePod"),
        (distillation_job_is_a_namesake, "Gone"),
    ],
)
async def test_every_link_of_the_chain_is_checked(
    client: TestClient[Any, Any], api_server: ApiServerDouble, break_it: Callable[[ApiServerDouble], None], reason: str
) -> None:
    break_it(api_server)
    assert await post(client, "pod") == (403, reason)


async def test_a_pod_cannot_report_for_another_stage(client: TestClient[Any, Any]) -> None:
    assert await post(client, "pod", {**REPORT, "stage": "publish"}) == (403, "AnotherStage")
    assert await read(client) == {}


@pytest.mark.parametrize("report", [{}, {"stage": "train", "percentage": 101}, {**REPORT, "unknown": 1}, "text"])
async def test_a_malformed_report_is_refused(client: TestClient[Any, Any], report: object) -> None:
    assert await post(client, "pod", report) == (400, "InvalidRequestError")


async def test_a_large_report_is_refused(client: TestClient[Any, Any]) -> None:
    assert (await post(client, "pod", {**REPORT, "message": "x" * LIMIT_BYTES}))[0] == 413


async def test_only_the_operator_reads(client: TestClient[Any, Any]) -> None:
    assert await read(client, token="pod") == (403, "NotTheOperator")
    assert await read(client, token="unknown") == (401, "TokenInvalid")


async def test_a_verdict_is_kept_for_a_minute(client: TestClient[Any, Any], api_server: ApiServerDouble, clock: Clock) -> None:
    for _ in range(5):
        await post(client, "pod")
        await post(client, "unknown")
    assert api_server.reviews == 2
    pod_is_gone(api_server)
    clock.time += 59
    assert (await post(client, "pod"))[0] == 204
    clock.time += 2
    assert await post(client, "pod") == (403, "Gone")


async def test_an_outage_of_the_api_server_is_no_verdict(client: TestClient[Any, Any], api_server: ApiServerDouble) -> None:
    api_server.down = True
    assert await post(client, "pod") == (503, "GatewayUnavailable")
    api_server.down = False
    assert (await post(client, "pod"))[0] == 204


async def test_tokens_beyond_the_capacity_push_out_the_oldest(api_server: ApiServerDouble, clock: Clock) -> None:
    identities = Identities(api_server, clock, Door(clock), capacity=2)
    for token in ("pod", "no-pod", "operator", "pod"):
        await identities.account(Bearer(token, "10.0.0.1"))
    assert api_server.reviews == 4


def test_reports_expire_and_are_bounded() -> None:
    clock = Clock()
    reports = Reports(clock, seconds=60, capacity=2)
    jobs = [JobId("nlp", name, name) for name in ("a", "b", "c")]
    for job in jobs:
        reports.put(job, Progress(stage="train"))
    assert not reports.of(jobs[0])
    assert list(reports.of(jobs[2])) == ["train"]
    clock.time += 61
    assert not reports.of(jobs[2])


def test_shards_of_a_stage_are_summed_up_and_another_run_begins_anew() -> None:
    reports, job = Reports(Clock()), JobId("nlp", "arith", "dj-1")
    reports.put(job, Progress(stage="traces", done=30, total=40, estimated_remaining_seconds=5), "traces-1", "0")
    reports.put(job, Progress(stage="traces", done=10, total=40, estimated_remaining_seconds=9), "traces-1", "1")
    assert reports.of(job)["traces"] == Progress(stage="traces", percentage=50, done=40, total=80, estimated_remaining_seconds=9)
    reports.put(job, Progress(stage="traces", done=1, total=40), "traces-2", "0")
    assert reports.of(job)["traces"].done == 1


async def test_unknown_paths_answer_in_json(client: TestClient[Any, Any]) -> None:
    response = await client.get("/")
    assert (response.status, (await response.json())["error"]["reason"]) == (404, "NotFound")

"""Every right that the chart grants is used by the code, and the code uses no other (R18)."""

import re
from collections.abc import Mapping
from typing import Any, cast

from tests.unit.test_chart import IMAGES, granted, of_kind

from distillery.cluster.api_server import ApiServer
from distillery.cluster.session import Session

Rights = dict[tuple[str, str], set[str]]
VERBS = {"create": "create", "replace": "update", "merge_patch": "patch", "delete": "delete"}
ITEM = {"metadata": {"namespace": "n", "name": "x"}, "spec": {}}


class Recorder:
    """A session that writes down which right each request needs."""

    def __init__(self) -> None:
        self.used: Rights = {}

    def __getattr__(self, method: str) -> Any:
        async def call(path: str, *_: Any, **query: Any) -> dict[str, Any]:
            found = re.fullmatch(
                r"/(?:api/v1|apis/(?P<group>[^/]+)/[^/]+)(?:/namespaces/[^/]+)?/(?P<kind>[^/]+)(?:/[^/]+(?P<sub>/status)?)?", path
            )
            assert found, path
            named = path.rstrip("/").split("/")[-1] != found["kind"]
            verb = VERBS.get(method) or ("get" if named else "list")
            self.used.setdefault((found["group"] or "", found["kind"] + (found["sub"] or "")), set()).add(verb)
            return {"items": [], "metadata": {}, "status": {}}

        return call


#: Kopf lists and watches these (see test_handlers).
WATCHED = [("distillery.dev", "distillationjobs"), ("distillery.dev", "teacherbudgets"), ("batch", "jobs")]


async def operator_rights() -> Rights:
    recorder = Recorder()
    server = ApiServer(cast(Session, recorder))
    for key in WATCHED:
        recorder.used[key] = {"list", "watch"}
    await server.get_job("n", "x")
    await server.get_budget("n", "x")
    await server.children("n", "x", "u")
    await server.get_child("Job", "n", "x")
    await server.get_child("ConfigMap", "n", "x")
    await server.create_config_map(ITEM)
    await server.create_job(ITEM)
    await server.delete_job("n", "x", "u")
    await server.patch_status("n", "x", "1", {})
    await server.patch_budget_status("n", "x", "1", {})
    await server.delete_distillation_job("n", "x", "u")
    await server.create_event(ITEM)
    await server.warnings_of("n", "u")
    assert [job async for job in server.list_jobs()] == []
    assert [budget async for budget in server.list_budgets()] == []
    return recorder.used


async def test_the_operator_holds_exactly_what_it_uses() -> None:
    assert granted(of_kind("ClusterRole", *IMAGES)["distillery-operator"]) == await operator_rights()


async def test_the_lease_role_holds_exactly_what_the_lease_uses() -> None:
    recorder = Recorder()
    server = ApiServer(cast(Session, recorder))
    await server.get_lease("n", "x")
    await server.create_lease(ITEM)
    await server.replace_lease(ITEM)
    assert granted(of_kind("Role", *IMAGES)["distillery-operator-lease"]) == recorder.used


async def test_the_gateway_holds_exactly_what_it_uses() -> None:
    recorder = Recorder()
    server = ApiServer(cast(Session, recorder))
    await server.review_token("t", "a")
    await server.get_pod("n", "x")
    await server.get_child("Job", "n", "x")
    await server.get_job("n", "x")
    await server.get_budget("n", "x")
    assert granted(of_kind("ClusterRole", *IMAGES)["distillery-gateway"]) == recorder.used


def test_every_request_of_the_operator_is_in_the_list_above() -> None:
    methods: Mapping[str, Any] = vars(ApiServer)
    public = {name for name in methods if not name.startswith("_")}
    assert public == {
        "get_job", "children", "get_child", "create_config_map", "create_job", "delete_job", "patch_status", "delete_distillation_job",
        "create_event", "warnings_of", "list_jobs", "serves_our_kinds", "get_lease", "create_lease", "replace_lease", "get_pod",
        "review_token", "get_budget", "list_budgets", "patch_budget_status",
    }  # fmt: skip

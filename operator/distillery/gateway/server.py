"""The HTTP interface: stage pods POST /v1/progress, the operator GETs it. Errors are JSON: {"error": {"reason", "message"}}."""

from __future__ import annotations

import json
import logging
from collections.abc import Awaitable, Callable

from aiohttp import web
from pydantic import ValidationError

from distillery.api.base import problems
from distillery.api.result import Progress
from distillery.cluster import ClusterError
from distillery.metrics import Metrics

from .identity import Identities, Refused
from .reports import JobId, Reports

log = logging.getLogger(__name__)
#: A report has 16 metrics and a short message; this is several times as much.
LIMIT_BYTES = 16 * 1024
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class ProgressEndpoint:
    """`operator` is the ServiceAccount (namespace, name) that may read."""

    def __init__(self, identities: Identities, reports: Reports, operator: tuple[str, str], metrics: Metrics) -> None:
        self._identities, self._reports, self._operator, self._metrics = identities, reports, operator, metrics

    def app(self) -> web.Application:
        """The application that serves it."""
        app = web.Application(client_max_size=LIMIT_BYTES, middlewares=[self._errors])
        app.add_routes([web.post("/v1/progress", self._post), web.get("/v1/progress", self._get)])
        return app

    async def _post(self, request: web.Request) -> web.Response:
        caller = await self._identities.stage_pod(_token(request))
        try:
            report = Progress.model_validate_json(await request.read())
        except ValidationError as error:
            raise Refused(400, "InvalidReport", "; ".join(problems(error, "report"))[:500]) from None
        if report.stage != caller.stage:
            raise Refused(403, "AnotherStage", f"pod {caller.pod} runs stage {caller.stage!r} and reports for {report.stage!r}")
        self._reports.put(JobId(caller.namespace, caller.job, caller.uid), report)
        self._metrics.progress_posts.labels("204").inc()
        self._metrics.progress_reports.set(len(self._reports))
        return web.Response(status=204)

    async def _get(self, request: web.Request) -> web.Response:
        account = await self._identities.account(_token(request))
        if (account.namespace, account.name) != self._operator:
            raise Refused(403, "NotTheOperator", f"ServiceAccount {account.namespace}/{account.name} may not read progress")
        try:
            job = JobId(*(request.query[part] for part in ("namespace", "job", "uid")))
        except KeyError as error:
            raise Refused(400, "MissingParameter", f"query parameter {error} is required") from None
        return web.json_response({stage: report.wire() for stage, report in self._reports.of(job).items()})

    @web.middleware
    async def _errors(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        try:
            return await handler(request)
        except Refused as refusal:
            return self._refuse(request, refusal)
        except ClusterError as error:
            log.warning("an identity could not be proved: %s", error)
            return self._refuse(request, Refused(503, "Unavailable", "the API server does not answer; try again later"))
        except web.HTTPException as error:
            return self._refuse(request, Refused(error.status, error.reason.replace(" ", ""), error.text or error.reason))

    def _refuse(self, request: web.Request, refusal: Refused) -> web.Response:
        if request.method == "POST":
            self._metrics.progress_posts.labels(str(refusal.status)).inc()
        log.warning("refused: %s", refusal.message, extra={"reason": refusal.reason, "code": refusal.status, "remote": request.remote})
        headers = {"WWW-Authenticate": "Bearer"} if refusal.status == 401 else {}
        body = {"error": {"reason": refusal.reason, "message": refusal.message}}
        return web.Response(text=json.dumps(body), status=refusal.status, content_type="application/json", headers=headers)


def _token(request: web.Request) -> str:
    scheme, _, token = request.headers.get("Authorization", "").partition(" ")
    if scheme.lower() != "bearer" or not token:
        raise Refused(401, "NoToken", "send the pod's projected ServiceAccount token as `Authorization: Bearer …`")
    return token.strip()

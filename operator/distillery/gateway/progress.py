"""How far the stages are: their pods POST /v1/progress, the operator GETs it."""

from __future__ import annotations

from aiohttp import web
from pydantic import ValidationError

from distillery.api import reasons
from distillery.api.problems import problems
from distillery.api.result import Progress
from distillery.metrics import Metrics

from .errors import Refused
from .http import only, read, token_of
from .identity import Identities, JobId
from .reports import Reports

#: A report has 16 metrics and a short message; this is several times as much.
LIMIT_BYTES = 16 * 1024


class ProgressEndpoint:
    """`operator` is the ServiceAccount (namespace, name) that may read."""

    def __init__(self, identities: Identities, reports: Reports, operator: tuple[str, str], metrics: Metrics) -> None:
        self._identities, self._reports, self._operator, self._metrics = identities, reports, operator, metrics

    def routes(self) -> list[web.RouteDef]:
        """For the application."""
        return [web.post("/v1/progress", self._post), web.get("/v1/progress", self._get)]

    async def _post(self, request: web.Request) -> web.Response:
        try:
            await self._take(request)
        except Refused as error:
            self._metrics.progress_posts.labels(str(error.status)).inc()
            raise
        self._metrics.progress_posts.labels("204").inc()
        self._metrics.progress_reports.set(len(self._reports))
        return web.Response(status=204)

    async def _take(self, request: web.Request) -> None:
        caller = await self._identities.stage_pod(token_of(request))
        try:
            report = Progress.model_validate_json(await read(request.clone(client_max_size=LIMIT_BYTES)))
        except ValidationError as error:
            raise Refused(400, reasons.INVALID_REQUEST, "; ".join(problems(error, "report"))[:500]) from None
        if report.stage != caller.stage:
            raise Refused(403, reasons.ANOTHER_STAGE, f"pod {caller.pod} runs stage {caller.stage!r} and reports for {report.stage!r}")
        self._reports.put(caller.owner, report, caller.run, caller.shard)

    async def _get(self, request: web.Request) -> web.Response:
        only(await self._identities.account(token_of(request)), self._operator, "read progress")
        try:
            job = JobId(*(request.query[part] for part in ("namespace", "job", "uid")))
        except KeyError as error:
            raise Refused(400, reasons.INVALID_REQUEST, f"query parameter {error} is required") from None
        return web.json_response({stage: report.wire() for stage, report in self._reports.of(job).items()})

"""The application: every endpoint of the gateway, with one way to tell an error."""

from __future__ import annotations

from collections.abc import Iterable

from aiohttp import web

from .http import errors

#: A conversation of a million tokens fits; a report of progress is held to much less.
LIMIT_BYTES = 8 * 1024 * 1024


def application(routes: Iterable[web.RouteDef]) -> web.Application:
    """The application that serves these routes."""
    app = web.Application(client_max_size=LIMIT_BYTES, middlewares=[errors])
    app.add_routes(routes)
    return app

"""The application: every endpoint of the gateway, with one way to tell an error."""

from __future__ import annotations

from collections.abc import Iterable

from aiohttp import web

from .door import Door
from .http import errors
from .room import Sizes


def application(routes: Iterable[web.RouteDef], door: Door, most: int = Sizes.request) -> web.Application:
    """The application that serves these routes, with bodies of at most so many bytes."""
    app = web.Application(client_max_size=most, middlewares=[errors(door)])
    app.add_routes(routes)
    return app

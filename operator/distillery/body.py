"""Objects of the API server as they come and go: the JSON dicts of the API, never typed models."""

from __future__ import annotations

from typing import Any

#: An object, or a part of one.
Body = dict[str, Any]


def controller(body: Body) -> Body | None:
    """The ownerReference of the controller of an object."""
    owners = body["metadata"].get("ownerReferences") or ()
    return next((owner for owner in owners if owner.get("controller")), None)

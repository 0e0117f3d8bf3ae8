"""How the pods of a world end."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class End:
    """How a pod ends: an exit code with a termination message, or from outside."""

    code: int = 0
    text: str | None = None
    disrupted: bool = False
    reason: str = "Completed"
    #: The pod is gone before anyone reads its message.
    lost: bool = False


#: What the pod of this stage does in this run; None: it goes on running.
Script = Callable[[str, int], End | None]
